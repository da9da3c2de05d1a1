//go:build netns

package tests

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/state"
)

// TestByHand runs every program once on two nodes, in order and with no supervisor; then again, when
// nothing may be left to do; then down in reverse order, when the kernel must be as it was.
func TestByHand(t *testing.T) {
	each(t, func(t *testing.T, b backend, s stack) {
		a, z := pair(t, b, s)
		steps := b.steps()
		before := map[*node]string{a: a.kernel(), z: z.kernel()}
		for _, n := range []*node{a, z, a, z} { // a learns of z in its second turn
			for _, s := range steps {
				n.must(s, "apply")
			}
		}
		for _, n := range []*node{a, z} {
			for _, s := range steps {
				for _, verb := range []string{"plan", "apply"} {
					if out := n.must(s, verb); out != "" {
						t.Errorf("%s: %s %s once more: not empty:\n%s", n.name, s, verb, out)
					}
				}
			}
		}
		reach(t, a, z)
		for i := len(steps) - 1; i >= 0; i-- {
			for _, n := range []*node{a, z} {
				n.must(steps[i], "down")
			}
		}
		for _, n := range []*node{a, z} {
			if diff := cmp.Diff(before[n], n.kernel()); diff != "" {
				t.Errorf("%s: the kernel is not as it began (-before +after):\n%s", n.name, diff)
			}
			left, _ := filepath.Glob(string(n.run) + "/*.json")
			conf, _ := os.ReadDir(n.confDir)
			if len(left)+len(conf) > 0 {
				t.Errorf("%s: files left: %s %v", n.name, left, conf)
			}
		}
	})
}

// TestAlloc: with the back end alloc everything is there but the way to the other nodes, which somebody else makes.
func TestAlloc(t *testing.T) {
	store := filepath.Join(t.TempDir(), "store")
	conf := `{"EnableIPv6": true, "Network": "10.244.0.0/16", "IPv6Network": "fd00:10:244::/56", "Backend": {"Type": "alloc"}}`
	a := newNode(t, "a", "192.168.7.1/24 fd00:7::1/64", conf, store)
	z := newNode(t, "z", "192.168.7.2/24 fd00:7::2/64", conf, store)
	join(a, z)
	for _, n := range []*node{a, z, a} {
		for _, s := range []string{"subnet-lease", "alloc-setup", "subnet-lease", "masq-sync", "route-sync", "cni-bridge"} {
			n.must(s, "apply")
		}
	}
	if out := a.Run("ip", "route", "show", "proto", "116") + a.Run("ip", "-6", "route", "show", "proto", "116"); out != "" {
		t.Errorf("routes of ours: %s", out)
	}
	if env := read(t, filepath.Join(string(a.run), "subnet.env")); !strings.Contains(env, "FLANNEL_MTU=1500\n") {
		t.Errorf("subnet.env: %s", env)
	}
	for n, other := range map[*node]*node{a: z, z: a} {
		lease, err := state.Load[state.Lease](other.run.Lease())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range state.Families {
			n.Run("ip", "route", "add", lease.Subnet.Of(f).String(), "via", lease.PublicIP.Of(f).String())
		}
	}
	reach(t, a, z)
	if out := a.Run(program(t, "route-sync"), "plan", "--take-over", "--run-dir", string(a.run)); out != "" {
		t.Errorf("the routes of somebody else's are to go:\n%s", out)
	}
}

// join connects the uplinks of two nodes with a bridge in the test's own namespace.
func join(a, z *node) {
	const bridge = "underlay"
	t := a.t
	run(t, "ip", "link", "add", bridge, "type", "bridge")
	t.Cleanup(func() { run(t, "ip", "link", "del", bridge) })
	run(t, "ip", "link", "set", bridge, "up")
	for _, n := range []*node{a, z} {
		run(t, "ip", "link", "set", "up-"+n.name, "master", bridge)
	}
}

// reach pings, over the pipeline, between addresses out of the nodes' subnets, put on lo as if a pod
// had them.
func reach(t *testing.T, a, z *node) {
	t.Helper()
	pods := map[*node]state.Pair[netip.Addr]{}
	for _, n := range []*node{a, z} {
		lease, err := state.Load[state.Lease](n.run.Lease())
		if err != nil {
			t.Fatal(err)
		}
		var pod state.Pair[netip.Addr]
		for _, f := range state.Families {
			if !lease.Subnet.Has(f) {
				continue
			}
			address := lease.Subnet.Of(f).Addr().AsSlice()
			address[len(address)-1] = 9
			ip, _ := netip.AddrFromSlice(address)
			pod.Set(f, ip)
			add := []string{"addr", "add", ip.String(), "dev", "lo"}
			if f == state.IPv6 {
				add = append(add, "nodad") // else it is tentative for an instant, on lo too
			}
			n.Run("ip", add...)
			defer n.Run("ip", "addr", "del", netip.PrefixFrom(ip, ip.BitLen()).String(), "dev", "lo")
		}
		pods[n] = pod
	}
	for _, f := range state.Families {
		from, to := pods[a].Of(f), pods[z].Of(f)
		if !to.IsValid() {
			continue
		}
		if out, err := a.Try("ping", "-c2", "-i0.1", "-W2", "-I", from.String(), to.String()); err != nil {
			t.Errorf("ping %s from %s: %v\n%s", to, from, err, out)
		}
	}
}
