//go:build netns

package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/state"
)

// TestStatusFails: while lease.json or link.json cannot be used, the line of status says so, and no
// later one hides it; a good file ends it.
func TestStatusFails(t *testing.T) {
	dir, err := os.MkdirTemp("", "") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	said := func(begin string) {
		t.Helper()
		if err := socket.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		for b := make([]byte, 4096); ; {
			n, err := socket.Read(b)
			if err != nil {
				t.Fatalf("no status %q: %v", begin, err)
			}
			if strings.HasPrefix(string(b[:n]), "STATUS="+begin) {
				return
			}
		}
	}
	n := newNode(t, 1, typeVXLAN, false, false).alone()
	n.device()
	n.files()
	n.knows(peerOf(2))
	n.watch()
	said("1 peers, 0 left out")
	good, err := os.ReadFile(n.Dir.Link())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(n.Dir.Link(), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	said(state.Failing + "keeping to what was read before")
	n.knows(peerOf(3))
	said(state.Failing + "keeping to what was read before")
	if err := os.WriteFile(n.Dir.Link(), good, 0o644); err != nil {
		t.Fatal(err)
	}
	said("2 peers, 0 left out")
}
