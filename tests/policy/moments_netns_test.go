//go:build netns

package policy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/tests/node"
	"github.com/towpath/towpath/tests/probe"
)

// moments are the corners that need more than a table.
var moments = []struct {
	name string
	run  func(*testing.T, *scene)
}{
	{"invalid selector: fails closed", invalidSelector},
	{"Service VIP: judged after DNAT", serviceVIP},
	{"node to its own pods", nodeToPod},
	{"another node to pods", otherNode},
	{"pod to its own node", podToNode},
	{"pod to itself", podToItself},
	{"replies", replies},
	{"ICMP errors and neighbour discovery", related},
	{"terminating pods stay, finished pods leave", finished},
	{"hostNetwork pods are no pods", hostNetwork},
	{"labels of pods and namespaces change", relabel},
	{"dual stack: every address of a pod", everyAddress},
}

// invalidSelector is one that no API server takes: in a file it is refused by name, and what was in force stays in force.
func invalidSelector(t *testing.T, s *scene) {
	const lines = "dev/db -> dev/web 80/TCP: deny\nprod/web -> prod/client 80/TCP: allow"
	s.apply(policy("dev/a", closed))
	s.expect(t, lines)
	s.Set("policies", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchExpressions: [{key: app, operator: In, values: []}]}}]}]}"))
	out, err := s.Try(node.Binary(t, "policy-render"), "apply", "--run-dir", string(s.Run), "--objects", s.Objects)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 65 || !strings.Contains(out, "policies.yaml") || !strings.Contains(out, "dev/a") {
		t.Errorf("policy-render apply: %v\n%s", err, out)
	}
	s.Must("policy-load", "apply", "--run-dir", string(s.Run))
	s.expect(t, lines)
}

// serviceVIP does what kube-proxy does: a Service's port 80 is port 8080 of the pod.
func serviceVIP(t *testing.T, s *scene) {
	web, client := s.pods["dev/web"], s.pods["prod/client"]
	s.nft(t, "table ip svc4 { chain c { type nat hook prerouting priority dstnat; ip daddr 10.96.0.10 tcp dport 80 dnat to "+web.IPs[0].String()+":8080; }; }\n"+
		"table ip6 svc6 { chain c { type nat hook prerouting priority dstnat; ip6 daddr fd00:96::10 tcp dport 80 dnat to ["+web.IPs[1].String()+"]:8080; }; }")
	defer s.nft(t, "delete table ip svc4\ndelete table ip6 svc6")
	ask := func(want bool) {
		t.Helper()
		for i, vip := range []string{"10.96.0.10", "fd00:96::10"} {
			p := probe.Packet{From: client.IPs[i], To: netip.MustParseAddr(vip), Protocol: probe.TCP, Port: 80}
			if got := s.Passes(client, web, p, want); got != want {
				t.Errorf("%s arrives: %v", p, got)
			}
		}
	}
	pods := "to: [{namespaceSelector: {matchLabels: {env: dev}}, podSelector: {matchLabels: {app: web}}}]"
	s.apply(policy("prod/a", "{podSelector: {}, policyTypes: [Egress], egress: [{"+pods+", ports: [{port: 8080}]}]}"))
	ask(true)
	s.apply(policy("prod/a", "{podSelector: {}, policyTypes: [Egress], egress: [{"+pods+", ports: [{port: 80}]}]}"))
	ask(false)
	s.apply(policy("prod/a", "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.96.0.0/16}}, {ipBlock: {cidr: 'fd00:96::/64'}}]}]}"))
	ask(false)
	s.apply(policy("dev/a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchLabels: {env: prod}}}], ports: [{port: 8080}]}]}"))
	ask(true)
}

func (s *scene) nft(t *testing.T, script string) {
	t.Helper()
	cmd := s.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s", err, out)
	}
}

// datagram sends one from a socket of the node.
func (s *scene) datagram(t *testing.T, from, to netip.Addr, port uint16, data []byte) {
	t.Helper()
	var err error
	s.Do(func() {
		var c *net.UDPConn
		var local *net.UDPAddr
		if from.IsValid() {
			local = net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
		}
		if c, err = net.DialUDP("udp", local, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, port))); err == nil {
			_, err = c.Write(data)
			c.Close()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func nodeToPod(t *testing.T, s *scene) {
	s.apply(policy("dev/a", closed))
	web := s.pods["dev/web"]
	for i := range 2 {
		for _, from := range []string{node.Gateway[i], node.Uplink[i]} {
			p := s.Next(probe.Packet{From: web.IPs[i], To: web.IPs[i], Protocol: probe.UDP, Port: 1234})
			data := p.Bytes()
			s.datagram(t, netip.MustParseAddr(from), web.IPs[i], 1234, data[len(data)-8:])
			if !s.Arrives(web, p, 3*time.Second) {
				t.Errorf("a datagram from %s does not arrive at %s", from, web.IPs[i])
			}
		}
	}
}

func otherNode(t *testing.T, s *scene) {
	s.apply(policy("dev/a", closed))
	s.expect(t, "next -> dev/web 80/TCP: deny\nnext -> prod/web 80/TCP: allow")
}

// podToNode looks for the datagram at a socket of the node.
func podToNode(t *testing.T, s *scene) {
	web := s.pods["dev/web"]
	ask := func(want bool) {
		t.Helper()
		for i := range 2 {
			for _, to := range []string{node.Gateway[i], node.Uplink[i]} {
				if got := s.heard(t, web, netip.MustParseAddr(to), want); got != want {
					t.Errorf("a datagram from %s arrives at %s: %v", web.IPs[i], to, got)
				}
			}
		}
	}
	ask(true)
	s.apply(policy("dev/a", "{podSelector: {}, policyTypes: [Ingress]}"))
	ask(true)
	s.apply(policy("dev/a", closed))
	ask(false)
	s.apply(policy("dev/a", "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}]}]}"))
	ask(false)
	s.apply(policy("dev/a", fmt.Sprintf("{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: %s/32}}, {ipBlock: {cidr: %s/32}}, {ipBlock: {cidr: '%s/128'}}, {ipBlock: {cidr: '%s/128'}}]}]}",
		node.Gateway[0], node.Uplink[0], node.Gateway[1], node.Uplink[1])))
	ask(true)
	s.apply(policy("dev/a", closed))
	s.Flags = append(s.Flags, "--node-egress", "allow")
	defer func() { s.Flags = s.Flags[:len(s.Flags)-2] }()
	s.Apply()
	ask(true)
	s.expect(t, "dev/web -> next 80/TCP: deny")
}

// heard says whether a datagram of a pod arrives at a socket of the node. expected decides how long it is waited for, not the
// answer.
func (s *scene) heard(t *testing.T, from *node.Pod, to netip.Addr, expected bool) bool {
	t.Helper()
	return s.heardOn(t, from, from.Addr(to), to, 4321, expected)
}

func (s *scene) heardOn(t *testing.T, from *node.Pod, source, to netip.Addr, port uint16, expected bool) bool {
	t.Helper()
	var c *net.UDPConn
	var err error
	s.Do(func() { c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, port))) })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p := s.Next(probe.Packet{From: source, To: to, Protocol: probe.UDP, Port: port})
	limit := 30 * time.Millisecond
	if expected {
		limit = time.Second
	}
	for range 3 {
		s.Send(from, p)
		c.SetReadDeadline(time.Now().Add(limit))
		if n, err := c.Read(make([]byte, 100)); err == nil {
			return n == 8
		}
	}
	return false
}

// podToItself goes by way of a Service, as the pod's own kernel answers everything else.
func podToItself(t *testing.T, s *scene) {
	web := s.pods["dev/web"]
	s.nft(t, "table ip svc4 { chain c { type nat hook prerouting priority dstnat; ip daddr 10.96.0.10 dnat to "+web.IPs[0].String()+"; }; }\n"+
		"table ip6 svc6 { chain c { type nat hook prerouting priority dstnat; ip6 daddr fd00:96::10 dnat to "+web.IPs[1].String()+"; }; }")
	defer s.nft(t, "delete table ip svc4\ndelete table ip6 svc6")
	s.apply(policy("dev/a", closed))
	for i, vip := range []string{"10.96.0.10", "fd00:96::10"} {
		p := probe.Packet{From: web.IPs[i], To: netip.MustParseAddr(vip), Protocol: probe.TCP, Port: 80}
		if !s.Passes(web, web, p, true) {
			t.Errorf("%s does not come back", p)
		}
	}
	for i := range 2 {
		p := web.Command("ping", "-c1", "-W2", web.IPs[i].String())
		if out, err := p.CombinedOutput(); err != nil {
			t.Errorf("ping of its own address: %v\n%s", err, out)
		}
	}
}

// replies answer a flow that was allowed, and are nothing without it.
func replies(t *testing.T, s *scene) {
	web, client := s.pods["dev/web"], s.pods["prod/client"]
	s.apply(policy("dev/a", "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{ports: [{protocol: UDP, port: 80}]}]}"))
	for i := range 2 {
		p := s.Next(probe.Packet{From: client.IPs[i], To: web.IPs[i], Protocol: probe.UDP, Port: 80})
		back := p
		back.From, back.To, back.SourcePort, back.Port = p.To, p.From, p.Port, p.SourcePort
		s.Send(web, back)
		if s.Arrives(client, back, 30*time.Millisecond) {
			t.Errorf("%s arrives, and is no reply to anything", back)
		}
		if s.Send(client, p); !s.Arrives(web, p, 3*time.Second) {
			t.Fatalf("%s does not arrive", p)
		}
		if s.Send(web, back); !s.Arrives(client, back, 3*time.Second) {
			t.Errorf("the reply %s does not arrive", back)
		}
	}
}

// related ICMP errors pass; neighbours are found.
func related(t *testing.T, s *scene) {
	s.apply(policy("dev/a", "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{ports: [{protocol: UDP, port: 80}]}]}"))
	web, client := s.pods["dev/web"], s.pods["prod/client"]
	for i := range 2 {
		// Nobody listens: the pod's kernel answers with port unreachable, which its egress would forbid.
		var err error
		client.Do(func() {
			var c net.Conn
			if c, err = net.Dial("udp", netip.AddrPortFrom(web.IPs[i], 80).String()); err != nil {
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(5 * time.Second))
			if _, err = c.Write([]byte("x")); err == nil {
				_, err = c.Read(make([]byte, 1))
			}
		})
		if err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: no port unreachable: %v", web.IPs[i], err)
		}
		// The pods' neighbours are looked up anew, from both sides.
		for _, p := range []*node.Pod{web, client} {
			p.Run("ip", "neigh", "flush", "dev", "eth0")
			family := []string{"-4", "-6"}[i]
			if out, err := p.Try("ip", family, "neigh"); err != nil {
				t.Fatal(out, err)
			}
		}
	}
	s.apply(policy("dev/a", closed))
	for i := range 2 {
		web.Try("ping", "-c1", "-W1", client.IPs[i].String())
		if out := web.Run("ip", "neigh", "show", client.IPs[i].String()); !strings.Contains(out, strings.ToLower(client.MAC.String())) {
			t.Errorf("%s is not found: %q", client.IPs[i], out)
		}
	}
	s.expect(t, "dev/web -> prod/client ICMP: deny")
}

// finished pods leave every set; those that are being deleted stay as they are.
func finished(t *testing.T, s *scene) {
	write := func(metadata, phase string) {
		text := remote("prod/job", "app: job", "", node.Remote[1], node.Remote[3])
		text = strings.Replace(text, "uid: job", "uid: job"+metadata, 1)
		s.Set("pod-job", strings.Replace(text, "phase: Running", "phase: "+phase, 1))
	}
	defer s.Set("pod-job", "")
	allow := policy("dev/a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: job}}}]}]}")
	write("", "Running")
	s.apply(allow)
	s.expect(t, "far2 -> dev/web 80/TCP: allow")
	write(", deletionTimestamp: '2026-11-23T00:00:00Z'", "Running")
	s.Apply()
	s.expect(t, "far2 -> dev/web 80/TCP: allow")
	for _, phase := range []string{"Succeeded", "Failed"} {
		write("", "Running")
		s.Apply()
		s.expect(t, "far2 -> dev/web 80/TCP: allow")
		write("", phase)
		s.Apply()
		s.expect(t, "far2 -> dev/web 80/TCP: deny")
	}
}

func hostNetwork(t *testing.T, s *scene) {
	s.Set("pod-agent", remote("prod/agent", "app: agent", "  hostNetwork: true\n", node.Next[0], node.Next[1]))
	defer s.Set("pod-agent", "")
	s.apply(policy("dev/a", "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [{namespaceSelector: {}}]}], egress: [{to: [{namespaceSelector: {}, podSelector: {matchLabels: {app: agent}}}]}]}"))
	s.expect(t, "next -> dev/web 80/TCP: deny\ndev/web -> next 80/TCP: deny")
	s.apply(policy("dev/a", fmt.Sprintf("{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{ipBlock: {cidr: %s/32}}, {ipBlock: {cidr: '%s/128'}}]}]}", node.Next[0], node.Next[1])))
	s.expect(t, "next -> dev/web 80/TCP: allow")
	s.apply(policy("prod/a", closed)) // it selects no hostNetwork pod
	s.expect(t, "next -> dev/web 80/TCP: allow\ndev/web -> next 80/TCP: allow")
}

func relabel(t *testing.T, s *scene) {
	client, web := s.pods["prod/client"], s.pods["dev/web"]
	s.apply(policy("dev/a", "{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchLabels: {env: prod}}, podSelector: {matchLabels: {app: client}}}]}]}"))
	s.expect(t, "prod/client -> dev/web 80/TCP: allow")
	was := client.Labels
	client.Labels = "app=other"
	client.Write()
	s.Apply()
	s.expect(t, "prod/client -> dev/web 80/TCP: deny")
	client.Labels = was
	client.Write()
	s.Apply()
	s.expect(t, "prod/client -> dev/web 80/TCP: allow")
	s.Namespaces("dev env=dev", "prod env=test")
	s.Apply()
	s.expect(t, "prod/client -> dev/web 80/TCP: deny")
	s.Namespaces("dev env=dev", "prod env=prod team=a", "kube-system")
	s.Apply()
	s.expect(t, "prod/client -> dev/web 80/TCP: allow\nprod/web -> dev/web 80/TCP: deny")
	was = web.Labels
	web.Labels = "app=other" // the policy no longer selects it
	web.Write()
	s.Apply()
	s.expect(t, "prod/web -> dev/web 80/TCP: allow")
	web.Labels = was
	web.Write()
	s.Apply()
	s.expect(t, "prod/web -> dev/web 80/TCP: deny")
}

// everyAddress of a pod that has several of a family is a peer.
func everyAddress(t *testing.T, s *scene) {
	s.Set("pod-two", remote("prod/two", "app: two", "", node.Remote...))
	defer s.Set("pod-two", "")
	if err := os.Remove(s.Objects + "/pod-dev-far.yaml"); err != nil {
		t.Fatal(err)
	}
	defer s.Set("pod-dev-far", remote("dev/far", "app: far", "", node.Remote[0], node.Remote[2]))
	s.apply(policy("dev/a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: two}}}]}]}"))
	s.expect(t, "far -> dev/web 80/TCP: allow\nfar2 -> dev/web 80/TCP: allow\nexternal -> dev/web 80/TCP: deny")
}
