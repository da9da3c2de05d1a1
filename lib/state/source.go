package state

import "strings"

// Kube, in the place of a file's name, stands for the API server: the objects, or the leases, come from there.
const Kube = "kube"

// Etcd, in the place of net-conf.json's name, stands for the configuration in the store; with an address behind it, as in
// etcd://HOST:PORT, and as Etcds with TLS, it is the store.
const (
	Etcd  = "etcd"
	Etcds = "etcds"
)

// ConfigMap begins a name that stands for a ConfigMap of the API server: configmap:NAMESPACE/NAME.
const ConfigMap = "configmap:"

// FromServer says that a name in the place of a file's stands for something of the API server's or of etcd's, which is no
// file that anybody could wait for.
func FromServer(name string) bool {
	return name == Kube || name == Etcd || strings.HasPrefix(name, ConfigMap)
}

// InEtcd says that a store, as TOWPATH_STORE names it, is an etcd.
func InEtcd(store string) bool {
	scheme, _, _ := strings.Cut(store, ":")
	return scheme == Etcd || scheme == Etcds
}

// Variables looks a variable up for a stage file. Where the store is an etcd and TOWPATH_NET_CONF does not say otherwise, the
// network's configuration is there too, as flannel has it.
func Variables(look func(name string) (string, bool)) func(name string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := look(name)
		if name == "TOWPATH_NET_CONF" && value == "" {
			if store, _ := look("TOWPATH_STORE"); InEtcd(store) {
				return Etcd, true
			}
		}
		return value, ok
	}
}
