package main

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/state"
)

// TestReadPeersLooksAgain: a directory that stayed as it was is not listed again, and whatever changes in it is seen.
func TestReadPeersLooksAgain(t *testing.T) {
	f := files{run: state.Dir(t.TempDir())}
	save := func(path string, v any) {
		if _, err := state.Save(path, v); err != nil {
			t.Fatal(err)
		}
	}
	peer := func(i, subnet int) {
		p := peerOf(i)
		p.Subnet = peerOf(subnet).Subnet
		save(f.run.Peer(p.Node), p)
	}
	good, _ := state.Marshal(peerOf(3))
	for _, c := range []struct {
		what   string
		change func()
		news   string
		settle bool // it has nothing left to look at
	}{
		{"two peers", func() { peer(2, 2); peer(3, 3) }, "2 of 2", true},
		{"nothing", func() {}, "0 of 2", true},
		{"a peer's other subnet", func() { peer(2, 7) }, "1 of 2", true},
		{"a peer that goes from half a list", func() { os.Remove(f.run.Peer("n2")) }, "0 of 2", true},
		{"the list is whole", func() { save(f.run.PeersSynced(), state.PeersSynced{Version: 1, Store: "test"}) }, "1 of 1", true},
		{"a broken file", func() { os.WriteFile(f.run.Peer("n3"), []byte("{"), 0o644); os.Remove(f.run.Peer("n2")); peer(2, 2) }, "2 of 2", false},
		{"mended in place", func() { os.WriteFile(f.run.Peer("n3"), good, 0o644) }, "1 of 2", true},
		{"nothing again", func() {}, "0 of 2", true},
		{"a peer that comes", func() { peer(4, 4) }, "1 of 3", true},
	} {
		c.change()
		for range 2 { // as it is read just after the change, and once that is past
			changed, err := f.readPeers()
			if err != nil {
				t.Fatal(err)
			}
			if c.news != "" && fmt.Sprintf("%d of %d", len(changed), len(f.peers)) != c.news {
				t.Errorf("%s: %d of %d are news, want %s", c.what, len(changed), len(f.peers), c.news)
			}
			c.news = ""
			past := time.Now().Add(-time.Hour).Add(time.Duration(len(c.what)) * time.Second)
			if err := os.Chtimes(f.run.Peers(), past, past); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := f.readPeers(); err != nil || (f.listed != stamp{}) != c.settle {
			t.Errorf("%s: settled is %v (%v)", c.what, !c.settle, err)
		}
	}
}
