//go:build netns

package policy

import "testing"

// The parts that many policies are made of.
const (
	closed  = "{podSelector: {}, policyTypes: [Ingress, Egress]}"
	allopen = `
v4 external -> dev/web 80/TCP: allow
prod/client -> dev/web 80/TCP: allow
dev/web -> prod/client 80/TCP: allow
dev/web -> external 53/UDP: allow
`
)

// rows are the corners of facts on NetworkPolicy that a table of policies and packets can show; the others have tests of
// their own below TestSemantics.
var rows = []struct{ name, policies, expect string }{
	{"no policy", "# none", allopen + `
dev/web -> dev/db 9/SCTP: allow
dev/web -> dev/db ICMP: allow
far -> dev/web 1/UDP: allow
`},

	{"policyTypes unset", policy("dev/a", "{podSelector: {matchLabels: {app: web}}, ingress: []}"), `
prod/client -> dev/web 80/TCP: deny
dev/web -> prod/client 80/TCP: allow
dev/web -> external 80/TCP: allow
prod/client -> dev/db 80/TCP: allow
`},
	{"policyTypes unset, with egress rules", policy("dev/a", "{podSelector: {matchLabels: {app: web}}, egress: [{ports: [{port: 80}]}]}"), `
prod/client -> dev/web 80/TCP: deny
dev/web -> prod/client 80/TCP: allow
dev/web -> prod/client 81/TCP: deny
`},
	{"policyTypes unset, with empty egress", policy("dev/a", "{podSelector: {matchLabels: {app: web}}, egress: []}"), `
prod/client -> dev/web 80/TCP: deny
dev/web -> prod/client 80/TCP: allow
`},

	{"type absent, rules present", policy("dev/a", "{podSelector: {}, policyTypes: [Egress], ingress: [{ports: [{port: 1}]}], egress: [{ports: [{port: 80}]}]}"), `
prod/client -> dev/web 80/TCP: allow
prod/client -> dev/web 9/UDP: allow
dev/web -> prod/client 80/TCP: allow
dev/web -> prod/client 1/TCP: deny
`},

	{"podSelector empty", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress]}"), `
prod/client -> dev/web 80/TCP: deny
prod/client -> dev/db 80/TCP: deny
dev/web -> dev/db 80/TCP: deny
far -> prod/web 80/TCP: allow
dev/db -> prod/web 80/TCP: allow
`},

	{"rules nil or empty", policy("dev/a", closed), `
external -> dev/web 80/TCP: deny
dev/web -> external 80/TCP: deny
dev/web -> prod/client ICMP: deny
prod/client -> dev/web 5/SCTP: deny
prod/client -> prod/web 80/TCP: allow
`},
	{"rules [{}]", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}], egress: [{}]}"), allopen + `
dev/web -> prod/client 5/SCTP: allow
prod/client -> dev/web ICMP: allow
`},

	{"from and to nil or empty", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [], ports: [{port: 80}]}], egress: [{ports: [{port: 80}]}]}"), `
external -> dev/web 80/TCP: allow
far -> dev/web 80/TCP: allow
prod/client -> dev/web 81/TCP: deny
dev/web -> external 80/TCP: allow
dev/web -> external 81/TCP: deny
dev/web -> external 80/UDP: deny
`},
	{"ports nil or empty", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [{namespaceSelector: {}}], ports: []}], egress: [{to: [{podSelector: {}}]}]}"), `
prod/client -> dev/web 80/TCP: allow
prod/client -> dev/web 1/UDP: allow
prod/client -> dev/web 65535/SCTP: allow
prod/client -> dev/web ICMP: allow
external -> dev/web ICMP: deny
dev/web -> dev/db ICMP: allow
dev/web -> far 3/SCTP: allow
dev/web -> prod/client ICMP: deny
`},

	{"ports [{}]", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{ports: [{}]}]}"), `
prod/client -> dev/web 1/TCP: allow
prod/client -> dev/web 65535/TCP: allow
prod/client -> dev/web 1/UDP: deny
prod/client -> dev/web 1/SCTP: deny
prod/client -> dev/web ICMP: deny
`},
	{"ports [{}, {port: 80}]", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{ports: [{}, {port: 80}]}]}"), `
prod/client -> dev/web 1/TCP: allow
prod/client -> dev/web 80/TCP: allow
prod/client -> dev/web 80/UDP: deny
`},

	{"peers by podSelector", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}"), `
dev/web -> dev/db 80/TCP: allow
prod/web -> dev/db 80/TCP: deny
dev/db -> dev/web 80/TCP: deny
external -> dev/web 80/TCP: deny
`},
	{"peers by namespaceSelector", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchLabels: {team: a}}}]}]}"), `
prod/web -> dev/db 80/TCP: allow
prod/client -> dev/db 80/TCP: allow
dev/web -> dev/db 80/TCP: deny
`},
	{"peers by name of the namespace", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: prod}}}]}]}"), `
prod/web -> dev/db 80/TCP: allow
dev/web -> dev/db 80/TCP: deny
`},
	{"peers by both selectors", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchLabels: {team: a}}, podSelector: {matchLabels: {app: web}}}]}]}"), `
prod/web -> dev/db 80/TCP: allow
prod/client -> dev/db 80/TCP: deny
dev/web -> dev/db 80/TCP: deny
`},
	{"peers by either selector", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchLabels: {team: a}}}, {podSelector: {matchLabels: {app: web}}}]}]}"), `
prod/client -> dev/db 80/TCP: allow
dev/web -> dev/db 80/TCP: allow
far -> dev/db 80/TCP: deny
`},
	{"an empty selector is all pods and nobody else", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [{namespaceSelector: {}}]}], egress: [{to: [{namespaceSelector: {}}]}]}"), `
far -> dev/web 80/TCP: allow
prod/client -> dev/web 80/TCP: allow
external -> dev/web 80/TCP: deny
next -> dev/web 80/TCP: deny
dev/web -> far 80/TCP: allow
dev/web -> external 80/TCP: deny
dev/web -> next 80/TCP: deny
`},

	{"matchExpressions In", policy("dev/a", "{podSelector: {matchExpressions: [{key: app, operator: In, values: [db, x]}]}, policyTypes: [Ingress]}"), `
dev/web -> dev/db 80/TCP: deny
dev/db -> dev/web 80/TCP: allow
`},
	{"matchExpressions NotIn matches an absent key", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {}, podSelector: {matchExpressions: [{key: tier, operator: NotIn, values: [front]}]}}]}]}"), `
prod/client -> dev/db 80/TCP: allow
dev/web -> dev/db 80/TCP: deny
`},
	{"matchExpressions Exists and DoesNotExist", policy("dev/a", "{podSelector: {matchExpressions: [{key: tier, operator: Exists}]}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {}, podSelector: {matchExpressions: [{key: flag, operator: DoesNotExist}]}}]}]}"), `
prod/client -> dev/web 80/TCP: allow
prod/web -> dev/web 80/TCP: deny
prod/web -> dev/db 80/TCP: allow
`},
	{"matchLabels with an empty value", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {flag: ''}}}]}]}"), `
prod/web -> dev/web 80/TCP: allow
prod/client -> dev/web 80/TCP: deny
`},

	{"named port, ingress", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{ports: [{port: http}]}]}"), `
prod/client -> dev/web 80/TCP: allow
prod/client -> dev/web 8080/TCP: allow
prod/client -> dev/web 8000/TCP: deny
prod/client -> dev/web 80/UDP: deny
prod/client -> dev/db 80/TCP: deny
`},
	{"named port of a sidecar, not of an init container", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{ports: [{port: metrics}, {port: setup}]}]}"), `
prod/client -> dev/web 9100/TCP: allow
prod/client -> dev/web 9200/TCP: deny
`},
	{"named port of another protocol", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{ports: [{port: dns}]}]}"), `
prod/client -> dev/web 53/TCP: deny
prod/client -> dev/web 53/UDP: deny
`},
	{"named port, egress", policy("dev/a", "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}], ports: [{port: http}]}]}"), `
dev/db -> dev/web 80/TCP: allow
dev/db -> dev/web 8080/TCP: allow
dev/db -> dev/web 8000/TCP: deny
dev/db -> prod/web 8000/TCP: allow
dev/db -> prod/web 80/TCP: deny
dev/db -> far 80/TCP: deny
`},
	{"named port, egress to anybody", policy("dev/a", "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: http}]}]}"), `
dev/db -> prod/web 8000/TCP: allow
dev/db -> dev/web 80/TCP: allow
dev/db -> external 80/TCP: deny
`},
	{"named port that nobody has", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{ports: [{port: nothing}]}]}"), `
prod/client -> dev/web 80/TCP: deny
`},

	{"endPort", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{ports: [{port: 8000, endPort: 8002}, {protocol: UDP, port: 5, endPort: 5}]}]}"), `
prod/client -> dev/web 7999/TCP: deny
prod/client -> dev/web 8000/TCP: allow
prod/client -> dev/web 8001/TCP: allow
prod/client -> dev/web 8002/TCP: allow
prod/client -> dev/web 8003/TCP: deny
prod/client -> dev/web 8001/UDP: deny
prod/client -> dev/web 5/UDP: allow
`},

	{"SCTP", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{ports: [{protocol: SCTP, port: 80}]}]}"), `
prod/client -> dev/web 80/SCTP: allow
prod/client -> dev/web 81/SCTP: deny
prod/client -> dev/web 80/TCP: deny
`},
	{"SCTP is not TCP", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{ports: [{protocol: TCP, port: 80}]}]}"), `
prod/client -> dev/web 80/TCP: allow
prod/client -> dev/web 80/SCTP: deny
`},

	{"ipBlock", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [{ipBlock: {cidr: 192.0.2.0/25}}, {ipBlock: {cidr: '2001:db8::/65'}}]}], egress: [{to: [{ipBlock: {cidr: 192.0.2.1/32}}, {ipBlock: {cidr: '2001:db8::1/128'}}]}]}"), `
external -> dev/web 80/TCP: allow
external2 -> dev/web 80/TCP: deny
prod/client -> dev/web 80/TCP: deny
dev/web -> external 80/TCP: allow
dev/web -> external2 80/TCP: deny
`},
	{"ipBlock with except", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.128/25, 192.0.2.0/31]}}, {ipBlock: {cidr: '::/0', except: ['2001:db8::/65']}}]}]}"), `
v4 external -> dev/web 80/TCP: deny
v4 external2 -> dev/web 80/TCP: deny
v6 external -> dev/web 80/TCP: deny
v6 external2 -> dev/web 80/TCP: allow
`},
	{"except carves its own peer only", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.0/25]}}]}, {from: [{ipBlock: {cidr: 192.0.2.1/32}}], ports: [{port: 80}]}]}"), `
v4 external -> dev/web 80/TCP: allow
v4 external -> dev/web 81/TCP: deny
v4 external2 -> dev/web 81/TCP: allow
`},
	{"ipBlock matches pods", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{ipBlock: {cidr: 10.244.0.0/16, except: [10.244.2.2/32]}}, {ipBlock: {cidr: 'fd00:10:244::/48', except: ['fd00:10:244:2::2/128']}}]}]}"), `
prod/client -> dev/web 80/TCP: allow
far -> dev/web 80/TCP: deny
far2 -> dev/web 80/TCP: allow
external -> dev/web 80/TCP: deny
`},
	{"ipBlock of an old object, with host bits and leading zeros", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{ipBlock: {cidr: 192.000.002.077/24, except: [192.0.2.201/30]}}]}]}"), `
v4 external -> dev/web 80/TCP: allow
v4 external2 -> dev/web 80/TCP: deny
`},
	{"a block of one family says nothing of the other", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}], egress: [{to: [{ipBlock: {cidr: '::/0'}}]}]}"), `
v4 external -> dev/web 80/TCP: allow
v6 external -> dev/web 80/TCP: deny
v4 dev/web -> external 80/TCP: deny
v6 dev/web -> external 80/TCP: allow
`},

	{"composition: union of policies", policy("dev/a", closed) +
		policy("dev/b", "{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress], ingress: [{ports: [{port: 80}]}]}") +
		policy("dev/c", "{podSelector: {}, policyTypes: [Ingress], ingress: [{ports: [{port: 81}]}]}"), `
prod/client -> dev/web 80/TCP: allow
prod/client -> dev/web 81/TCP: allow
prod/client -> dev/web 82/TCP: deny
prod/client -> dev/db 80/TCP: deny
prod/client -> dev/db 81/TCP: allow
`},
	{"composition: egress and ingress", policy("dev/a", "{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{ports: [{port: 80}, {port: 81}]}]}") +
		policy("prod/a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{ports: [{port: 81}, {port: 82}]}]}"), `
dev/web -> prod/client 80/TCP: deny
dev/web -> prod/client 81/TCP: allow
dev/web -> prod/client 82/TCP: deny
dev/db -> prod/client 82/TCP: allow
dev/web -> external 80/TCP: allow
far -> prod/client 81/TCP: allow
far -> prod/client 80/TCP: deny
`},
}

// TestSemantics is what each corner of the API means on the real kernel, with real pods.
func TestSemantics(t *testing.T) {
	s := newScene(t)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			defer s.in(t)()
			s.apply(row.policies)
			s.expect(t, row.expect)
		})
	}
	for _, row := range moments {
		t.Run(row.name, func(t *testing.T) {
			defer s.in(t)()
			defer s.apply("# none")
			row.run(t, s)
		})
	}
}
