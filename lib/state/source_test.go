package state

import "testing"

func TestVariables(t *testing.T) {
	for _, c := range []struct{ store, conf, want string }{
		{"", "", ""},
		{"kube", "", ""},
		{"file:etcd", "", ""},
		{"etcd://10.0.0.1:2379", "", Etcd},
		{"etcds://10.0.0.1:2379", "", Etcd},
		{"etcd://10.0.0.1:2379", "/etc/conf.json", "/etc/conf.json"},
	} {
		values := map[string]string{"TOWPATH_STORE": c.store, "TOWPATH_NET_CONF": c.conf}
		look := Variables(func(name string) (string, bool) { v := values[name]; return v, v != "" })
		if got, _ := look("TOWPATH_NET_CONF"); got != c.want {
			t.Errorf("store %q, configuration %q: %q, want %q", c.store, c.conf, got, c.want)
		}
		if got, _ := look("TOWPATH_STORE"); got != c.store {
			t.Errorf("another variable is %q", got)
		}
	}
	for name, want := range map[string]bool{Etcd: true, Kube: true, "configmap:a/b": true, "/etc/etcd": false, "etcd.json": false, "": false} {
		if FromServer(name) != want {
			t.Errorf("%q comes from a server: %t", name, !want)
		}
	}
}
