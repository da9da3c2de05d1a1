//go:build netns

package nl

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/nstest"
)

func addChain(b *NFTBatch, name string) {
	b.Begin(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE|unix.NLM_F_EXCL, "inet")
	b.Text(unix.NFTA_CHAIN_TABLE, "t")
	b.Text(unix.NFTA_CHAIN_NAME, name)
}

func TestNFTConn(t *testing.T) {
	n := nstest.New(t, "write")
	n.Run("nft", "table inet t { chain c { counter; accept; drop; }; }")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	n.Do(func() {
		changes, err := WatchNFT(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		c, err := OpenNFT()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()

		handles, err := c.RuleHandles("inet", "t", "c")
		if err != nil || len(handles) != 3 || handles[0] >= handles[1] {
			t.Errorf("handles %v, %v", handles, err)
		}
		if handles, err := c.RuleHandles("inet", "t", "none"); err != nil || len(handles) != 0 {
			t.Errorf("rules of no chain: %v, %v", handles, err)
		}

		// The second of three messages is at fault: nothing takes effect, and the connection goes on.
		before, _ := NFTGeneration()
		var b NFTBatch
		addChain(&b, "x")
		addChain(&b, "c")
		addChain(&b, "y")
		var refused *NFTRefused
		if err := c.Commit(&b); !errors.As(err, &refused) || refused.Message != 1 || !errors.Is(err, unix.EEXIST) {
			t.Errorf("a chain that is there: %v (%+v)", err, refused)
		}
		if after, _ := NFTGeneration(); after != before {
			t.Errorf("generation %d, then %d", before, after)
		}
		b = NFTBatch{}
		addChain(&b, "x")
		if err := c.Commit(&b); err != nil {
			t.Error(err)
		}
		for {
			select {
			case got := <-changes:
				if got.Port != c.Port() {
					continue
				}
				if _, ok := got.Objects[NFTObject{"inet", "t", "x"}]; !ok || got.Generation != before+1 {
					t.Errorf("notice %+v", got)
				}
			case <-time.After(10 * time.Second):
				t.Error("no notice from our port")
			}
			break
		}
		if err := c.Commit(&NFTBatch{}); err != nil {
			t.Errorf("an empty transaction: %v", err)
		}
		b = NFTBatch{}
		addChain(&b, "z")
		b.Nest(unix.NFTA_CHAIN_HOOK, func() { b.Bytes(1, make([]byte, 40000)); b.Bytes(2, make([]byte, 40000)) })
		if err := c.Commit(&b); !errors.Is(err, unix.EMSGSIZE) {
			t.Errorf("an attribute that is too long: %v", err)
		}
	})
	n.Run("nft", "list chain inet t x")
}
