package main

import (
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// TestLastWords: why conf ended reaches towpath status.
func TestLastWords(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	if code := command(t.Context(), []string{"conf", "apply", "--policy", "maybe"}, io.Discard, io.Discard); code != 64 {
		t.Errorf("ended with %d", code)
	}
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if got := string(buf[:n]); err != nil || !strings.HasPrefix(got, `STATUS=failing: --policy "maybe": `) {
		t.Errorf("%q, %v", got, err)
	}
}
