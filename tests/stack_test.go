//go:build netns

package tests

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/state"
)

// backend is a back end that the pipeline tests run with.
type backend struct {
	name, setup, conf string // conf is Backend of net-conf.json
}

var backends = []backend{
	{"vxlan", "vxlan-setup", `{"Type": "vxlan"}`},
	{"vxlan-direct", "vxlan-setup", `{"Type": "vxlan", "DirectRouting": true}`},
	{"host-gw", "hostgw-setup", `{"Type": "host-gw"}`},
	{"extension", "extension-setup", `{"Type": "extension", "PreStartupCommand": "cat /sys/class/net/eth0/mtu",
		"SubnetAddCommand": "sh -c 'for way in \"$SUBNET $PUBLIC_IP\" \"$IPV6SUBNET $PUBLIC_IPV6\"; do set -- $way; [ -z \"$1\" ] || ip route add $1 via $2 || exit; done'",
		"SubnetRemoveCommand": "sh -c 'for way in \"$SUBNET $PUBLIC_IP\" \"$IPV6SUBNET $PUBLIC_IPV6\"; do set -- $way; [ -z \"$1\" ] || ip route del $1 via $2 || exit; done'"}`},
}

// stack is the address families that a cluster has.
type stack struct {
	name, networks string
	addresses      string // of a node, by its number
}

var (
	ipv4   = stack{"IPv4", `"Network": "10.244.0.0/16"`, "192.168.7.%[1]d/24"}
	dual   = stack{"dual stack", `"EnableIPv6": true, "Network": "10.244.0.0/16", "IPv6Network": "fd00:10:244::/56"`, "192.168.7.%[1]d/24 fd00:7::%[1]d/64"}
	ipv6   = stack{"IPv6 only", `"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd00:10:244::/56"`, "fd00:7::%[1]d/64"}
	stacks = []stack{ipv4, dual, ipv6}
)

func backendOf(t *testing.T, name string) backend {
	t.Helper()
	for _, b := range backends {
		if b.name == name {
			return b
		}
	}
	t.Fatalf("no back end %q", name)
	return backend{}
}

// netConf is net-conf.json.
func (b backend) netConf(s stack) string {
	return fmt.Sprintf(`{%s, "Backend": %s}`, s.networks, b.conf)
}

// steps are the programs of a node in the order in which each finds its inputs.
func (b backend) steps() []string {
	return []string{"subnet-lease", b.setup, "subnet-lease", "masq-sync", "route-sync", "cni-bridge"}
}

func (s stack) address(number int) string { return fmt.Sprintf(s.addresses, number) }

// each runs a test on every back end in every stack.
func each(t *testing.T, run func(t *testing.T, b backend, s stack)) {
	for _, b := range backends {
		for _, s := range stacks {
			t.Run(b.name+" "+s.name, func(t *testing.T) { run(t, b, s) })
		}
	}
}

// pair is two nodes, a and z, on one underlay and one store.
func pair(t *testing.T, b backend, s stack) (a, z *node) {
	t.Helper()
	store := filepath.Join(t.TempDir(), "store")
	a = newNode(t, "a", s.address(1), b.netConf(s), store)
	z = newNode(t, "z", s.address(2), b.netConf(s), store)
	join(a, z)
	return a, z
}

// TestFilesOfIPv6Only looks at what a node without any IPv4 address tells other programs.
func TestFilesOfIPv6Only(t *testing.T) {
	a, _ := pair(t, backendOf(t, "vxlan"), ipv6)
	for _, s := range backendOf(t, "vxlan").steps() {
		a.must(s, "apply")
	}
	env := filepath.Join(string(a.run), "subnet.env")
	want := "FLANNEL_IPV6_NETWORK=fd00:10:244::/56\nFLANNEL_IPV6_SUBNET=fd00:10:244::1/64\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=true\n"
	if diff := cmp.Diff(want, read(t, env)); diff != "" {
		t.Errorf("subnet.env (-want +got):\n%s", diff)
	}
	opts := filepath.Join(t.TempDir(), "docker.env")
	a.Run(filepath.Join(root, "scripts", "docker-opts"), "-6", "-c", "-f", env, "-d", opts)
	want = "DOCKER_OPTS=\" --fixed-cidr-v6=fd00:10:244::/64 --ip-masq=false --ipv6 --mtu=1430\"\n"
	if diff := cmp.Diff(want, read(t, opts)); diff != "" {
		t.Errorf("docker-opts (-want +got):\n%s", diff)
	}
	for _, path := range []string{a.run.Lease(), a.run.Link(), filepath.Join(a.store, "a.json"), filepath.Join(a.confDir, "10-towpath.conflist")} {
		if text := read(t, path); strings.Contains(text, `"ipv4"`) {
			t.Errorf("%s speaks of IPv4:\n%s", path, text)
		}
	}
	if devices := a.Run("ip", "-br", "link"); !strings.Contains(devices, "flannel-v6.1") || strings.Contains(devices, "flannel.1") {
		t.Errorf("devices:\n%s", devices)
	}
	if table := a.Run("nft", "list", "table", "inet", "towpath-masq"); strings.Contains(table, "ip saddr") || !strings.Contains(table, "ip6 saddr fd00:10:244::/56") {
		t.Errorf("masquerading:\n%s", table)
	}
	if forward := a.Run("cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"); forward != "0\n1\n" {
		t.Errorf("forwarding of IPv4 and IPv6: %q", forward)
	}
}

// TestOneFamilyOfAPeer: what a peer changes in one family is followed in that one, and nothing is done in the other.
func TestOneFamilyOfAPeer(t *testing.T) {
	a, z := pair(t, backendOf(t, "vxlan"), dual)
	steps := backendOf(t, "vxlan").steps()
	apply := func(nodes ...*node) {
		for _, n := range nodes {
			for _, s := range steps {
				n.must(s, "apply")
			}
		}
	}
	apply(a, z, a)
	mac := func(dev string) string { return strings.TrimSpace(z.Run("cat", "/sys/class/net/"+dev+"/address")) }
	mac4, mac6 := mac("flannel.1"), mac("flannel-v6.1")

	move := func(from, to string) {
		z.Run("ip", "addr", "del", from, "dev", "eth0")
		z.Run("ip", "addr", "add", to, "dev", "eth0")
		apply(z)
	}
	// publish is what another program on z would publish: the address of one end of the tunnel is another one.
	publish := func(f state.Family, mac string) {
		path := filepath.Join(z.store, "z.json")
		var record map[string]any
		if err := json.Unmarshal([]byte(read(t, path)), &record); err != nil {
			t.Fatal(err)
		}
		key := map[state.Family]string{state.IPv4: "data", state.IPv6: "dataV6"}[f]
		record["backend"].(map[string]any)[key].(map[string]any)["VtepMAC"] = mac
		text, err := json.Marshal(record)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, string(text))
	}
	for _, c := range []struct {
		name   string
		change func()
		ops    []string
	}{
		{"IPv4 address", func() { move("192.168.7.2/24", "192.168.7.22/24") }, []string{"bridge fdb replace " + mac4 + " dev flannel.1 dst 192.168.7.22 self permanent"}},
		{"IPv6 address", func() { move("fd00:7::2/64", "fd00:7::22/64") }, []string{"bridge fdb replace " + mac6 + " dev flannel-v6.1 dst fd00:7::22 self permanent"}},
		{"IPv4 end of the tunnel", func() { publish(state.IPv4, "02:00:00:00:00:04") }, []string{
			"bridge fdb replace 02:00:00:00:00:04 dev flannel.1 dst 192.168.7.22 self permanent",
			"ip neigh replace 10.244.1.0 lladdr 02:00:00:00:00:04 dev flannel.1 nud permanent",
			"bridge fdb del " + mac4 + " dev flannel.1 dst 192.168.7.22 self",
		}},
		{"IPv6 end of the tunnel", func() { publish(state.IPv6, "02:00:00:00:00:06") }, []string{
			"bridge fdb replace 02:00:00:00:00:06 dev flannel-v6.1 dst fd00:7::22 self permanent",
			"ip neigh replace fd00:10:244:1:: lladdr 02:00:00:00:00:06 dev flannel-v6.1 nud permanent",
			"bridge fdb del " + mac6 + " dev flannel-v6.1 dst fd00:7::22 self",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.change()
			if out, want := a.must("subnet-lease", "apply"), "write "+a.run.Peer("z")+"\n"; out != want {
				t.Errorf("subnet-lease apply: %q instead of %q", out, want)
			}
			var ops []string
			for _, line := range strings.Split(a.must("route-sync", "apply"), "\n") {
				if line != "" && !strings.HasPrefix(line, "write ") {
					ops = append(ops, line)
				}
			}
			if diff := cmp.Diff(c.ops, ops); diff != "" {
				t.Errorf("route-sync apply (-want +got):\n%s", diff)
			}
		})
	}
	apply(z, a) // z takes back what is not so
	reach(t, a, z)
}
