//go:build netns

package main

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

// statuses listens for what the watch verbs started later tell their supervisor.
func statuses(t *testing.T) *nstest.Log {
	t.Helper()
	path := filepath.Join(t.TempDir(), "n")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	told := &nstest.Log{}
	go func() {
		for b := make([]byte, 4096); ; {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			told.Write(append(b[:n:n], '\n'))
		}
	}()
	return told
}

func last(told *nstest.Log) string {
	lines := strings.Split(strings.TrimSuffix(told.String(), "\n"), "\n")
	return lines[len(lines)-1]
}

// TestSameName: two machines with one node name rewrite the one record ever more rarely, and say why.
func TestSameName(t *testing.T) {
	store := filepath.Join(t.TempDir(), "store")
	a, b := newNode(t, "same", "1", store), newNode(t, "same", "2", store)
	told := statuses(t)
	logA, _ := a.watch()
	logB, _ := b.watch()
	const cause = `hint="another machine uses the node name \"same\": set --node"`
	for _, log := range []*nstest.Log{logA, logB} {
		eventually(t, "the cause is told", func() bool { return strings.Contains(log.String(), cause) })
	}
	writes := func() int {
		return strings.Count(logA.String(), `op="publish `) + strings.Count(logB.String(), `op="publish `)
	}
	before := writes()
	<-time.After(4 * time.Second)
	// 100 ms, doubled each time and shortened by a half at most, leaves each at most seven.
	if n := writes() - before; n == 0 || n > 14 {
		t.Errorf("%d rewrites in 4 s", n)
	} else {
		t.Logf("%d rewrites in 4 s", n)
	}
	if strings.Count(logA.String(), cause) != 1 || strings.Count(logB.String(), cause) != 1 {
		t.Error("the cause is told more than once")
	}
	if got := last(told); !strings.HasPrefix(got, "STATUS="+state.Failing+`another machine uses the node name "same"`) {
		t.Errorf("status: %s", got)
	}
	if a.lease().PublicIP.IPv4.String() != "192.168.7.1" || b.lease().PublicIP.IPv4.String() != "192.168.7.2" {
		t.Error("the lease file of one is that of the other")
	}
}

// TestKeepingTheLast: as long as an input cannot be used, the status says so.
func TestKeepingTheLast(t *testing.T) {
	n := newNode(t, "a", "1", filepath.Join(t.TempDir(), "store"))
	told := statuses(t)
	n.watch()
	status := func(want string) func() bool {
		return func() bool { return strings.HasPrefix(last(told), "STATUS="+want) }
	}
	eventually(t, "all is well", status("10.244.0.0/24, 0 other nodes"))
	write(t, n.netConf, `{"Netwrok":"10.244.0.0/16"}`)
	eventually(t, "the configuration is kept", status(state.Failing+"keeping the last good configuration: "))
	write(t, n.run.Link(), "{")
	write(t, n.netConf, plain)
	eventually(t, "the link is kept", status(state.Failing+"keeping the last good link: "))
	n.link("vxlan", `{"VNI":1,"VtepMAC":"62:00:00:00:00:01"}`)
	eventually(t, "all is well again", status("10.244.0.0/24, 0 other nodes"))
	n.Run("ip", "route", "del", "default")
	n.Run("ip", "route", "del", "192.168.7.0/24", "dev", "eth0")
	eventually(t, "there is no interface", status(state.Failing+"choose interface: "))
}
