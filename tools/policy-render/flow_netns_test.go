//go:build netns

package main

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// dial opens a connection that stays open.
func dial(t *testing.T, from *pod, to netip.AddrPort) net.Conn {
	t.Helper()
	var c net.Conn
	from.Do(func() {
		var err error
		if c, err = (&net.Dialer{Timeout: patient}).Dial("tcp", to.String()); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// TestEstablishedConnections: rules that would no longer let a connection begin leave those that are there alone, until
// somebody sets the mark; and a denial is counted where it was denied.
func TestEstablishedConnections(t *testing.T) {
	n := newNode(t, "dev/myapp", "dev/other", "prod/web", "default/free")
	for _, p := range n.pods {
		n.addEndpoint(p)
	}
	text, err := os.ReadFile(story)
	if err != nil {
		t.Fatal(err)
	}
	n.objects = t.TempDir()
	all := filepath.Join(n.objects, "all.yaml")
	pods := regexp.MustCompile(`(?s)---\napiVersion: networking.*`).ReplaceAllString(string(text), "")
	n.write(all, pods)
	n.load()
	free, other := n.pods["default/free"], n.pods["dev/other"]
	conns := []net.Conn{
		dial(t, free, netip.AddrPortFrom(other.addrs.IPv4, 7777)), dial(t, free, netip.AddrPortFrom(other.addrs.IPv6, 7777)),
	}
	converses := func(what string, want bool) {
		t.Helper()
		for _, c := range conns {
			patience := patient
			if !want {
				patience = impatient
			}
			if err := converse(c, patience); (err == nil) != want {
				t.Errorf("%s: %s answers %v, want %v (%v)", what, c.RemoteAddr(), err == nil, want, err)
			}
		}
	}
	converses("before", true)
	n.write(all, string(text))
	n.load()
	converses("under rules that forbid it", true)
	n.check("under rules that forbid it", []flow{{"default/free", "dev/other", "tcp", 7777, false}})
	m := regexp.MustCompile(`10\.244\.1\.3 comment "dev/other" : goto (gi-[0-9a-f]+)`).FindStringSubmatch(n.host.Run("nft", "list", "map", "inet", "towpath-policy", "ingress4"))
	if m == nil {
		t.Fatal("dev/other is in no group")
	}
	if n.dropped("inet", "deny-"+m[1]) == 0 {
		t.Error("the denial was not counted")
	}
	for _, family := range []string{"ipv4", "ipv6"} {
		n.host.Run("conntrack", "-U", "-f", family, "-p", "tcp", "--dport", "7777", "--mark", "0x00080000/0x00080000")
	}
	converses("marked", false)
	if n.dropped("inet", "established") == 0 {
		t.Error("what the mark drops was not counted")
	}
	for _, family := range []string{"ipv4", "ipv6"} {
		n.host.Run("conntrack", "-U", "-f", family, "-p", "tcp", "--dport", "7777", "--mark", "0x00000000/0x00080000")
	}
	for _, c := range conns { // what was sent meanwhile comes now
		if err := converse(c, patient); err != nil {
			t.Errorf("mark taken away: %v", err)
		}
	}
}
