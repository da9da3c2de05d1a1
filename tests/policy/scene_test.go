//go:build netns

package policy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/tests/node"
	"github.com/towpath/towpath/tests/probe"
)

func TestMain(m *testing.M) { nstest.Main(m.Run) }

// scene is a node with the pods that most tests use. Its expectations are lines of the form
//
//	prod/client -> dev/web 80/TCP: allow
//
// where an end is a pod of this node, "far" (dev/far, a pod of another node), "external", "external2", or
// "next" (the other node itself), and the packet is PORT/PROTOCOL or ICMP. Each is tried in both families unless the
// line begins with "v4" or "v6".
type scene struct {
	*node.Node
	t     *testing.T
	pods  map[string]*node.Pod
	flows uint32 // that traffic has had
}

// spec has named ports in a container, in another one under the same name, and in a sidecar.
const spec = `  containers:
  - {name: a, ports: [{name: http, containerPort: 80}, {name: dns, containerPort: 53, protocol: UDP}]}
  - {name: b, ports: [{name: http, containerPort: 8080}]}
  initContainers:
  - {name: side, restartPolicy: Always, ports: [{name: metrics, containerPort: 9100}]}
  - {name: init, ports: [{name: setup, containerPort: 9200}]}
`

func newScene(t *testing.T, flags ...string) *scene {
	t.Helper()
	s := &scene{Node: node.New(t), t: t, pods: map[string]*node.Pod{}}
	s.Flags = flags
	s.Namespaces("dev env=dev", "prod env=prod team=a", "kube-system")
	s.Set("pod-dev-far", remote("dev/far", "app: far", "", node.Remote[0], node.Remote[2]))
	for _, p := range [][2]string{{"dev/web", "app=web tier=front"}, {"dev/db", "app=db"}, {"prod/client", "app=client"}, {"prod/web", "app=web flag="}} {
		s.pods[p[0]] = s.Prepare(p[0], p[1])
	}
	s.pods["dev/web"].Extra = spec
	s.pods["prod/web"].Extra = "  containers: [{name: a, ports: [{name: http, containerPort: 8000}]}]\n"
	for _, p := range s.pods {
		p.Write()
		s.Attach(p)
	}
	return s
}

// in makes a subtest the one that fails, until the function it returns is called.
func (s *scene) in(t *testing.T) func() {
	was := s.t
	s.t, s.T = t, t
	return func() { s.t, s.T = was, was }
}

// remote is the manifest of a pod of node2. more are lines of its spec.
func remote(pod, labels, more string, addresses ...string) string {
	namespace, name, _ := strings.Cut(pod, "/")
	var ips []string
	for _, a := range addresses {
		ips = append(ips, "{ip: '"+a+"'}")
	}
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {namespace: %s, name: %s, uid: %s, labels: {%s}}\nspec:\n  nodeName: node2\n%s"+
		"status: {phase: Running, podIPs: [%s], hostIPs: [{ip: %s}, {ip: '%s'}]}\n",
		namespace, name, name, labels, more, strings.Join(ips, ", "), node.Next[0], node.Next[1])
}

// apply puts these policies in the place of those before.
func (s *scene) apply(policies string) {
	s.t.Helper()
	s.Set("policies", policies+"\n# -\n")
	s.Apply()
}

// policy is a NetworkPolicy with a spec in YAML's flow style or indented by two spaces.
func policy(name, spec string) string {
	namespace, short, _ := strings.Cut(name, "/")
	return fmt.Sprintf("---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: %s, name: %s}\nspec: %s\n", namespace, short, spec)
}

// expect tries each line; see scene.
func (s *scene) expect(t *testing.T, lines string) {
	t.Helper()
	n := 0
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		for family := range 2 {
			rest, only := line, ""
			if line[0] == 'v' && line[2] == ' ' {
				only, rest = line[:2], line[3:]
			}
			if only == "" || only == [...]string{"v4", "v6"}[family] {
				s.try(t, rest, family)
				n++
			}
		}
	}
	if n == 0 {
		t.Error("nothing was expected")
	}
}

func (s *scene) try(t *testing.T, line string, family int) {
	t.Helper()
	from, to, p, want := s.parse(t, line, family)
	if got := s.Passes(from, to, p, want); got != want {
		t.Errorf("%s: %s arrives: %v", line, p, got)
	}
}

func (s *scene) parse(t *testing.T, line string, family int) (from, to node.Place, p probe.Packet, want bool) {
	t.Helper()
	words := strings.Fields(strings.Replace(line, ":", " :", 1))
	if len(words) != 6 || words[1] != "->" || words[5] != "allow" && words[5] != "deny" {
		t.Fatalf("malformed expectation %q", line)
	}
	port, protocol, _ := strings.Cut(words[3], "/")
	p.Protocol = map[string]uint8{"TCP": probe.TCP, "UDP": probe.UDP, "SCTP": probe.SCTP, "": probe.ICMP}[protocol]
	number, err := strconv.Atoi(port)
	if err != nil && port != "ICMP" {
		t.Fatalf("malformed expectation %q", line)
	}
	p.Port = uint16(number)
	p.From, p.To = s.address(words[0], family), s.address(words[2], family)
	return s.place(words[0]), s.place(words[2]), p, words[5] == "allow"
}

func (s *scene) place(name string) node.Place {
	if p := s.pods[name]; p != nil {
		return p
	}
	return node.World{Node: s.Node}
}

func (s *scene) address(name string, family int) netip.Addr {
	if p := s.pods[name]; p != nil {
		return p.IPs[family]
	}
	text := map[string]string{
		"far": node.Remote[2*family], "far2": node.Remote[2*family+1], "next": node.Next[family],
		"external": node.External[2*family], "external2": node.External[2*family+1],
	}[name]
	if text == "" {
		s.t.Fatalf("no pod and no place %q", name)
	}
	return netip.MustParseAddr(text)
}
