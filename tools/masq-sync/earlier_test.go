package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// saved is what iptables -S prints of tables that flannel, Calico, kube-proxy and Docker share.
const saved = `-P PREROUTING ACCEPT
-N FLANNEL-POSTRTG
-N KUBE-POSTROUTING
-N cali-POSTROUTING
-N cali-nat-outgoing
-A POSTROUTING -m comment --comment "cali:O3lYWMrLQYEMJtB5" -j cali-POSTROUTING
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-A POSTROUTING -m comment --comment "cali:Cp4NrIyzlMeYpo3X" -m comment --comment "Policy explicitly accepted packet." -j ACCEPT
-A POSTROUTING -m comment --comment "about FLANNEL-POSTRTG" -j LOG --log-prefix "-j FLANNEL-x "
-A FLANNEL-POSTRTG -s 10.244.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE --random-fully
-A KUBE-POSTROUTING -j MASQUERADE
-A cali-POSTROUTING -j cali-nat-outgoing
`

func TestParseSaved(t *testing.T) {
	l := parseSaved(saved)
	want := `-D POSTROUTING -m comment --comment "cali:O3lYWMrLQYEMJtB5" -j cali-POSTROUTING
-D POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-D POSTROUTING -m comment --comment "cali:Cp4NrIyzlMeYpo3X" -m comment --comment "Policy explicitly accepted packet." -j ACCEPT
-F FLANNEL-POSTRTG
-F cali-POSTROUTING
-F cali-nat-outgoing
-X FLANNEL-POSTRTG
-X cali-POSTROUTING
-X cali-nat-outgoing`
	if d := cmp.Diff(want, strings.Join(l.Commands, "\n")); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

const listed = `{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"table": {"family": "ip", "name": "nat", "handle": 1}},
{"chain": {"family": "ip", "table": "nat", "name": "FLANNEL-POSTRTG", "handle": 1}},
{"chain": {"family": "ip", "table": "nat", "name": "POSTROUTING", "handle": 2, "type": "nat", "hook": "postrouting", "prio": 100, "policy": "accept"}},
{"rule": {"family": "ip", "table": "nat", "chain": "FLANNEL-POSTRTG", "handle": 4, "expr": [{"counter": null}, {"return": null}]}},
{"rule": {"family": "ip", "table": "nat", "chain": "POSTROUTING", "handle": 7, "expr": [{"jump": {"target": "KUBE-POSTROUTING"}}]}},
{"rule": {"family": "ip", "table": "nat", "chain": "POSTROUTING", "handle": 3, "expr": [{"xt": {"type": "match", "name": "comment"}}, {"jump": {"target": "FLANNEL-POSTRTG"}}]}}]}`

func TestParseListed(t *testing.T) {
	l, err := parseListed([]byte(listed))
	want := "delete rule ip nat POSTROUTING handle 3\nflush chain ip nat FLANNEL-POSTRTG\ndelete chain ip nat FLANNEL-POSTRTG"
	if d := cmp.Diff(want, strings.Join(l.Commands, "\n")); d != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, d)
	}
}

// FuzzParseListed: whatever is listed, only chains of earlier networks are touched, and rules of others by handle.
func FuzzParseListed(f *testing.F) {
	f.Add([]byte(listed))
	f.Add([]byte(`{"nftables":[{"rule":null},{"chain":{"name":"cali-x"}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := parseListed(data)
		for _, c := range l.Commands {
			if err != nil || !strings.HasPrefix(c, "delete rule ") && !strings.Contains(c, "FLANNEL-") && !strings.Contains(c, "cali-") {
				t.Errorf("%q, %v", c, err)
			}
		}
	})
}

// FuzzParseSaved: the chains that are removed are theirs, and no rule inside them is removed one by one.
func FuzzParseSaved(f *testing.F) {
	f.Add(saved)
	f.Add("-N cali-\n-A cali-\n-A \n-A X -j")
	f.Fuzz(func(t *testing.T, text string) {
		for _, c := range parseSaved(text).Commands {
			verb, rest, _ := strings.Cut(c, " ")
			if (verb == "-D") == isEarlier(rest) {
				t.Errorf("%q", c)
			}
		}
	})
}
