//go:build netns

package nstest

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) { Main(m.Run) }

func TestNamespacesAreApart(t *testing.T) {
	a, b := New(t, "a"), New(t, "b")
	Connect(a, "eth0", "192.168.9.1/24", b, "eth0", "192.168.9.2/24")
	a.Run("ping", "-c1", "-W2", "192.168.9.2")
	if out := Run(t, "ip", "-br", "link"); strings.Contains(out, "eth0") {
		t.Errorf("the test's own namespace has eth0:\n%s", out)
	}
	var links []os.DirEntry
	a.Do(func() { links, _ = os.ReadDir("/proc/self/net/dev_snmp6") })
	if len(links) == 0 {
		t.Error("Do: no devices seen")
	}
	if os.Getpid() != 1 {
		t.Errorf("process id %d: not in a process namespace of its own", os.Getpid())
	}
}

// TestPinging: what is not answered is counted, and what comes after the last answer is not.
func TestPinging(t *testing.T) {
	a, b := New(t, "a"), New(t, "b")
	Connect(a, "eth0", "192.168.9.1/24", b, "eth0", "192.168.9.2/24")
	stop := a.Pinging("192.168.9.2")
	<-time.After(200 * time.Millisecond)
	if sent, lost := stop(); sent < 5 || lost != 0 {
		t.Errorf("%d sent, %d lost", sent, lost)
	}
	stop = a.Pinging("192.168.9.2")
	b.Run("sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")
	<-time.After(200 * time.Millisecond)
	b.Run("sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=0")
	<-time.After(500 * time.Millisecond)
	if sent, lost := stop(); lost < 5 || lost >= sent {
		t.Errorf("%d sent, %d lost, with no answers for 200 ms", sent, lost)
	}
}
