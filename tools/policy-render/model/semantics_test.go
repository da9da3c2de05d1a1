package model_test

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/towpath/towpath/tools/policy-render/model"
	"github.com/towpath/towpath/tools/policy-render/objects"
)

// cluster is the pods of the semantics tests, all of node n1 unless they say n2.
const cluster = `
kind: Namespace
metadata: {name: dev, labels: {team: a, kubernetes.io/metadata.name: lie}}
---
kind: Namespace
metadata: {name: prod, labels: {team: b}}
---
kind: Pod
metadata: {name: web, namespace: dev, labels: {app: web, tier: front}}
spec: {nodeName: n1, containers: [{ports: [{name: http, containerPort: 80}]}]}
status: {podIPs: [{ip: 10.1.0.1}, {ip: "fd00::1"}], hostIPs: [{ip: 192.0.2.1}]}
---
kind: Pod
metadata: {name: db, namespace: dev, labels: {app: db}}
spec:
  nodeName: n1
  containers: [{ports: [{name: http, containerPort: 8080}]}, {ports: [{name: http, containerPort: 8081}, {name: dns, containerPort: 53, protocol: UDP}]}]
  initContainers:
  - {restartPolicy: Always, ports: [{name: mesh, containerPort: 15001}]}
  - {ports: [{name: setup, containerPort: 9}]}
status: {podIPs: [{ip: 10.1.0.2}, {ip: "fd00::2"}], hostIPs: [{ip: 192.0.2.1}]}
---
kind: Pod
metadata: {name: web, namespace: prod, labels: {app: web}}
spec: {nodeName: n2, containers: [{ports: [{name: http, containerPort: 8888}]}]}
status: {podIPs: [{ip: 10.1.0.3}, {ip: "fd00::3"}], hostIPs: [{ip: 192.0.2.2}]}
---
kind: Pod
metadata: {name: bare, namespace: other}
spec: {nodeName: n2}
status: {podIPs: [{ip: 10.1.0.4}, {ip: "fd00::4"}]}
`

// world is a cluster with a policy each for the given specs, in the namespace dev, of the names p0, p1, …
type world struct {
	t *testing.T
	*model.Cluster
}

func newWorld(t *testing.T, specs ...string) world {
	t.Helper()
	w := world{t, model.New("n1")}
	w.add(cluster)
	for i, s := range specs {
		w.policy("dev", "p"+strconv.Itoa(i), s)
	}
	w.Commit()
	return w
}

func (w world) add(text string) {
	w.t.Helper()
	got, err := objects.Read(strings.NewReader(text), "test.yaml", objects.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := objects.Load(w.Cluster, got); err != nil {
		w.t.Fatal(err)
	}
}

func (w world) policy(namespace, name, spec string) {
	w.t.Helper()
	w.add("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: " + name + ", namespace: " + namespace + "}\nspec: " + spec)
}

// passes judges both ends of "dev/db dev/web 80/TCP"; an end may be an address.
func (w world) passes(packet string) bool {
	w.t.Helper()
	f := strings.Fields(packet)
	from, fromAddrs := w.end(f[0])
	to, toAddrs := w.end(f[1])
	number, name, _ := strings.Cut(f[2], "/")
	port, err := strconv.ParseUint(number, 10, 16)
	proto, ok := model.ParseProtocol(name)
	if !ok {
		proto = model.ICMP
	}
	if err != nil {
		w.t.Fatal(err)
	}
	src, dst := fromAddrs[0], toAddrs[0]
	for _, a := range append(fromAddrs, toAddrs...) { // both ends of one family
		if a.Is6() && (len(fromAddrs) == 1 || len(toAddrs) == 1) {
			src, dst = fromAddrs[len(fromAddrs)-1], toAddrs[len(toAddrs)-1]
		}
	}
	if src.Is4() != dst.Is4() {
		src, dst = fromAddrs[0], toAddrs[0]
	}
	return w.Judge(model.Egress, from, src, dst, proto, uint16(port)).Allowed && w.Judge(model.Ingress, to, dst, src, proto, uint16(port)).Allowed
}

func (w world) end(s string) (model.Key, []netip.Addr) {
	w.t.Helper()
	if a, err := netip.ParseAddr(s); err == nil {
		if p := w.PodByAddr(a); p != nil {
			return p.Key, []netip.Addr{a}
		}
		return model.Key{}, []netip.Addr{a}
	}
	ns, name, _ := strings.Cut(s, "/")
	k := model.Key{Namespace: ns, Name: name}
	if w.Pod(k) == nil || len(w.Pod(k).IPs) == 0 {
		w.t.Fatalf("no pod %q with an address", s)
	}
	return k, w.Pod(k).IPs
}

// check takes lines "yes dev/db dev/web 80/TCP".
func (w world) check(lines string) {
	w.t.Helper()
	for line := range strings.SplitSeq(strings.TrimSpace(lines), "\n") {
		want, packet, _ := strings.Cut(strings.TrimSpace(line), " ")
		if want != "yes" && want != "no" {
			w.t.Fatalf("write yes or no: %q", line)
		}
		if w.passes(packet) != (want == "yes") {
			w.t.Errorf("%s: should be %s", packet, want)
		}
	}
}

// TestSemantics has a test for each row of the table of corners of networking.k8s.io/v1.
func TestSemantics(t *testing.T) {
	for _, c := range []struct {
		name  string
		specs []string
		lines string
	}{
		{"policyTypes unset", []string{`{podSelector: {matchLabels: {app: web}}}`, `{podSelector: {matchLabels: {app: db}}, egress: [{to: [{ipBlock: {cidr: 10.1.0.3/32}}]}]}`}, `
			no prod/web dev/web 80/TCP
			yes dev/web prod/web 80/TCP
			no prod/web dev/db 80/TCP
			yes dev/db prod/web 80/TCP
			no dev/db other/bare 80/TCP`},
		{"policyTypes unset, egress empty", []string{`{podSelector: {}, egress: []}`}, `
			no prod/web dev/web 80/TCP
			yes dev/web prod/web 80/TCP`},
		{"type absent, rules present", []string{`{podSelector: {}, policyTypes: [Egress], ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24}}]}]}`}, `
			yes prod/web dev/web 80/TCP
			no dev/web prod/web 80/TCP`},
		{"podSelector empty", []string{`{}`}, `
			no prod/web dev/web 80/TCP
			no prod/web dev/db 80/TCP
			yes dev/web prod/web 80/TCP`},
		{"ingress nil", []string{`{podSelector: {}, policyTypes: [Ingress]}`}, "no prod/web dev/web 80/TCP"},
		{"ingress empty", []string{`{podSelector: {}, ingress: []}`}, "no prod/web dev/web 80/TCP"},
		{"egress nil", []string{`{podSelector: {}, policyTypes: [Egress]}`}, "no dev/web prod/web 80/TCP\nyes prod/web dev/web 80/TCP"},
		{"ingress of one empty rule", []string{`{podSelector: {}, ingress: [{}]}`}, "yes prod/web dev/web 80/TCP\nyes 203.0.113.1 dev/web 1/ICMP"},
		{"from empty", []string{`{podSelector: {}, ingress: [{from: [], ports: [{port: 80}]}]}`}, `
			yes prod/web dev/web 80/TCP
			yes 203.0.113.1 dev/web 80/TCP
			no prod/web dev/web 81/TCP`},
		{"ports empty", []string{`{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}], ports: []}]}`}, `
			yes prod/web dev/web 80/TCP
			yes prod/web dev/web 80/SCTP
			yes prod/web dev/web 0/ICMP
			no 203.0.113.1 dev/web 80/TCP`},
		{"ports of one empty port", []string{`{podSelector: {}, ingress: [{ports: [{}, {port: 80}]}]}`}, `
			yes prod/web dev/web 1/TCP
			yes prod/web dev/web 65535/TCP
			no prod/web dev/web 80/UDP
			no prod/web dev/web 0/ICMP`},
		{"peer podSelector is of the own namespace", []string{`{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}`}, `
			yes dev/web dev/db 80/TCP
			no prod/web dev/db 80/TCP`},
		{"peer namespaceSelector is all pods there", []string{`{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: b}}}]}]}`}, `
			yes prod/web dev/db 80/TCP
			no dev/web dev/db 80/TCP
			no other/bare dev/db 80/TCP`},
		{"peer of both selectors needs both", []string{`{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: a}}, podSelector: {matchLabels: {app: web}}}]}]}`}, `
			yes dev/web dev/db 80/TCP
			no prod/web dev/db 80/TCP`},
		{"peer selectors in two entries need either", []string{`{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: b}}}, {podSelector: {matchLabels: {app: web}}}]}]}`}, `
			yes dev/web dev/db 80/TCP
			yes prod/web dev/db 80/TCP
			no other/bare dev/db 80/TCP`},
		{"empty selector is all pods, never another address", []string{`{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{namespaceSelector: {}}]}]}`}, `
			yes other/bare dev/db 80/TCP
			no 203.0.113.1 dev/db 80/TCP
			no 192.0.2.2 dev/db 80/TCP`},
		{"namespace has its name as a label", []string{`{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: other}}}, {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: lie}}}]}]}`}, `
			yes other/bare dev/web 80/TCP
			no dev/db dev/web 80/TCP`},
		{"matchExpressions In", []string{`{podSelector: {matchExpressions: [{key: app, operator: In, values: [db, x]}]}}`}, "no prod/web dev/db 80/TCP\nyes prod/web dev/web 80/TCP"},
		{"matchExpressions NotIn matches an absent key", []string{`{podSelector: {matchExpressions: [{key: tier, operator: NotIn, values: [front]}]}}`}, "no prod/web dev/db 80/TCP\nyes prod/web dev/web 80/TCP"},
		{"matchExpressions Exists", []string{`{podSelector: {matchExpressions: [{key: tier, operator: Exists}]}}`}, "no prod/web dev/web 80/TCP\nyes prod/web dev/db 80/TCP"},
		{"matchExpressions DoesNotExist", []string{`{podSelector: {matchExpressions: [{key: tier, operator: DoesNotExist}]}}`}, "no prod/web dev/db 80/TCP\nyes prod/web dev/web 80/TCP"},
		{"named port of the subject, different in each pod, of several containers", []string{`{podSelector: {}, ingress: [{ports: [{port: http}]}]}`}, `
			yes prod/web dev/web 80/TCP
			no prod/web dev/web 8080/TCP
			yes prod/web dev/db 8080/TCP
			yes prod/web dev/db 8081/TCP
			no prod/web dev/db 80/TCP
			no prod/web dev/db 8080/UDP`},
		{"named port has its protocol", []string{`{podSelector: {}, ingress: [{ports: [{port: dns}]}]}`}, "no prod/web dev/db 53/UDP\nno prod/web dev/db 53/TCP"},
		{"named port with its protocol", []string{`{podSelector: {}, ingress: [{ports: [{port: dns, protocol: UDP}]}]}`}, "yes prod/web dev/db 53/UDP\nno prod/web dev/db 53/TCP"},
		{"named port that nobody has isolates", []string{`{podSelector: {}, ingress: [{ports: [{port: none}]}]}`}, "no prod/web dev/db 80/TCP"},
		{"named port of a sidecar, not of another init container", []string{`{podSelector: {}, ingress: [{ports: [{port: mesh}, {port: setup}]}]}`}, "yes prod/web dev/db 15001/TCP\nno prod/web dev/db 9/TCP"},
		{"named port of each destination", []string{`{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}], ports: [{port: http}]}]}`}, `
			yes dev/web prod/web 8888/TCP
			no dev/web prod/web 80/TCP
			yes dev/web dev/db 8081/TCP
			no dev/web 203.0.113.1 80/TCP`},
		{"named port of any destination is a pod's", []string{`{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: http}]}]}`}, `
			yes dev/web prod/web 8888/TCP
			no dev/web prod/web 80/TCP
			no dev/web 203.0.113.1 80/TCP
			no dev/web other/bare 80/TCP`},
		{"named port of a destination in a block", []string{`{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.1.0.2/31}}], ports: [{port: http}]}]}`}, `
			yes dev/web prod/web 8888/TCP
			yes dev/web dev/db 8080/TCP
			no dev/db dev/web 80/TCP`},
		{"endPort is inclusive", []string{`{podSelector: {}, ingress: [{ports: [{port: 100, endPort: 102}, {port: 200, endPort: 200}]}]}`}, `
			no prod/web dev/web 99/TCP
			yes prod/web dev/web 100/TCP
			yes prod/web dev/web 102/TCP
			no prod/web dev/web 103/TCP
			yes prod/web dev/web 200/TCP
			no prod/web dev/web 201/TCP`},
		{"SCTP is not TCP", []string{`{podSelector: {}, ingress: [{ports: [{port: 80, protocol: SCTP}]}]}`}, "yes prod/web dev/web 80/SCTP\nno prod/web dev/web 80/TCP\nno prod/web dev/web 80/UDP"},
		{"TCP is not SCTP", []string{`{podSelector: {}, ingress: [{ports: [{port: 80}]}]}`}, "no prod/web dev/web 80/SCTP\nyes prod/web dev/web 80/TCP"},
		{"ipBlock matches pods too", []string{`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.1.0.0/16, except: [10.1.0.4/32]}}]}]}`}, `
			yes prod/web dev/web 80/TCP
			no other/bare dev/web 80/TCP
			no 203.0.113.1 dev/web 80/TCP`},
		{"ipBlock except carves only its own peer", []string{`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.1.0.0/16, except: [10.1.0.3/32, 10.1.0.4/32]}}, {ipBlock: {cidr: 10.1.0.4/32}}]}]}`}, "no prod/web dev/web 80/TCP\nyes other/bare dev/web 80/TCP"},
		{"ipBlock with leading zeros and host bits", []string{`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 010.001.000.007/24}}]}]}`}, "yes prod/web dev/web 80/TCP\nno 8.1.0.1 dev/web 80/TCP"},
		{"ipBlock of IPv4 never matches IPv6", []string{`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}`}, "yes 203.0.113.1 dev/web 80/TCP\nno fd00::9 dev/web 80/TCP"},
		{"ipBlock of IPv6 never matches IPv4", []string{`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: "::/0"}}]}]}`}, "no 203.0.113.1 dev/web 80/TCP\nyes fd00::9 dev/web 80/TCP"},
		{"Service is judged after DNAT", []string{`{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {team: b}}}], ports: [{port: 8888}]}]}`}, `
			yes dev/web prod/web 8888/TCP
			no dev/web 10.96.0.10 80/TCP`},
		{"node reaches its own pods, other nodes do not", []string{`{podSelector: {}}`}, "yes 192.0.2.1 dev/web 80/TCP\nno 192.0.2.2 dev/web 80/TCP"},
		{"pod to its own node is policed", []string{`{podSelector: {}, policyTypes: [Egress]}`}, "no dev/web 192.0.2.1 80/TCP"},
		{"pod reaches itself", []string{`{podSelector: {}, policyTypes: [Ingress, Egress]}`}, "yes dev/web dev/web 80/TCP\nyes fd00::1 fd00::1 80/TCP\nno dev/web dev/db 80/TCP"},
		{"replies need no rule, new connections do", []string{`{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress, Egress], ingress: [{from: [{namespaceSelector: {}}]}]}`}, "yes prod/web dev/web 80/TCP\nno dev/web prod/web 40000/TCP"},
		{"ICMP needs a rule without ports", []string{`{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{}, {protocol: UDP}, {protocol: SCTP}]}]}`, `{podSelector: {matchLabels: {app: db}}, ingress: [{}]}`}, "no prod/web dev/web 0/ICMP\nyes prod/web dev/db 0/ICMP"},
		{"dual stack", []string{`{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: db}}}]}]}`}, `
			yes fd00::2 fd00::1 80/TCP
			no fd00::3 fd00::1 80/TCP
			yes dev/db dev/web 80/TCP`},
		{"policies add up", []string{`{podSelector: {}}`, `{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 80}]}]}`, `{podSelector: {matchLabels: {tier: front}}, ingress: [{ports: [{port: 81}]}]}`}, `
			yes prod/web dev/web 80/TCP
			yes prod/web dev/web 81/TCP
			no prod/web dev/web 82/TCP
			no prod/web dev/db 80/TCP`},
		{"egress of the source and ingress of the destination", []string{`{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{ports: [{port: 80}]}]}`, `{podSelector: {matchLabels: {app: db}}, ingress: [{ports: [{port: 80}, {port: 81}]}]}`}, `
			yes dev/web dev/db 80/TCP
			no dev/web dev/db 81/TCP
			yes prod/web dev/db 81/TCP`},
	} {
		t.Run(c.name, func(t *testing.T) { newWorld(t, c.specs...).check(c.lines) })
	}
	t.Run("pod start", semanticsPodStart)
	t.Run("invalid selector", semanticsInvalid)
	t.Run("terminating pod stays, finished pod leaves", semanticsFinished)
	t.Run("hostNetwork", semanticsHostNetwork)
	t.Run("own node", semanticsOwnNode)
	t.Run("labels change", semanticsLabels)
	t.Run("unknown namespaces", semanticsUnknownNamespace)
}
