package keep

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSupervisorDoesNotRead: the program goes on, and once the supervisor reads it is told what counts.
func TestSupervisorDoesNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	done := make(chan bool)
	const messages = 2000 // more than any net.unix.max_dgram_qlen
	go func() {
		defer close(done)
		for i := range messages {
			Status("at %d", i)
		}
		Ready()
		Status("the end")
		if err := Store("box", l); err == nil {
			t.Error("stored, with nobody reading")
		}
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("it waits for its supervisor")
	}
	var said []string
	for buf := make([]byte, 1000); len(said) == 0 || said[len(said)-1] != "STATUS=the end"; {
		if err := l.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := l.Read(buf)
		if err != nil {
			t.Fatalf("%v; said %q", err, said)
		}
		said = append(said, string(buf[:n]))
	}
	if all := strings.Join(said, " "); !strings.Contains(all, "FDSTORE=1\nFDNAME=box READY=1 STATUS=the end") || len(said) >= messages {
		t.Errorf("%d messages: %q", len(said), said)
	}
	Forget("box")
}
