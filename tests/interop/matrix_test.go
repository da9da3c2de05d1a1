//go:build peer

package interop

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestMatrix has a pod on a node of towpath's and one on a node of flannel's, for each back end, and prints a table of what
// passes between them. Where flanneld cannot do with this kernel the row says so in its words.
func TestMatrix(t *testing.T) {
	const networks = `"EnableIPv6": true, "Network": "10.244.0.0/16", "IPv6Network": "fd00:10:244::/56", `
	const network = `"Network": "10.244.0.0/16", `
	var table strings.Builder
	fmt.Fprint(&table, "| back end | ping, towpath's pod to flannel's | and back | packets of the pods' MTU, both ways | TCP, 8 MiB, both ways |\n|---|---|---|---|---|\n")
	for _, b := range []struct{ name, conf, device string }{
		{"vxlan", network + `"Backend": {"Type": "vxlan"}`, ""},
		{"vxlan, EnableNFTables", network + `"EnableNFTables": true, "Backend": {"Type": "vxlan"}`, ""},
		{"vxlan, VNI 7, port 4789", network + `"Backend": {"Type": "vxlan", "VNI": 7, "Port": 4789}`, ""},
		{"vxlan, DirectRouting", network + `"Backend": {"Type": "vxlan", "DirectRouting": true}`, ""},
		{"vxlan, dual stack", networks + `"Backend": {"Type": "vxlan"}`, ""},
		{"host-gw", network + `"Backend": {"Type": "host-gw"}`, ""},
		{"host-gw, dual stack", networks + `"Backend": {"Type": "host-gw"}`, ""},
		{"udp", network + `"Backend": {"Type": "udp"}`, ""},
		{"wireguard", network + `"Backend": {"Type": "wireguard"}`, "wireguard"},
		{"ipip", network + `"Backend": {"Type": "ipip"}`, "ipip"},
	} {
		t.Run(b.name, func(t *testing.T) {
			s := newSite(t, "{"+b.conf+"}")
			a, z := s.node("a", "192.168.7.1/24 fd00:7::1/64"), s.node("z", "192.168.7.2/24 fd00:7::2/64")
			if err := z.tryFlanneld(); err != nil {
				if b.device == "" {
					t.Fatal(err)
				}
				if out, _ := z.Try("ip", "link", "add", "probe", "type", b.device); !strings.Contains(out, "Unknown device type") && !strings.Contains(out, "not supported") {
					t.Fatalf("%v, though the kernel has such devices: %s", err, out)
				}
				fmt.Fprintf(&table, "| %s | not on this kernel, %s | | | |\n", b.name, err)
				return
			}
			a.supervise()
			pa, pz := a.pod(), z.pod()
			row := row{t: t, out: &table}
			fmt.Fprintf(&table, "| %s ", b.name)
			row.cell(func() (string, error) { return passes(pa, pz, 0) })
			row.cell(func() (string, error) { return passes(pz, pa, 0) })
			row.cell(func() (string, error) {
				text := fmt.Sprintf("%d, %d", pa.mtu, pz.mtu)
				least := min(pa.mtu, pz.mtu)
				_, err := passes(pa, pz, least)
				_, back := passes(pz, pa, least)
				return text, errors.Join(err, back)
			})
			row.cell(func() (string, error) {
				var errs []error
				for i := range pa.ips {
					errs = append(errs, pa.stream(pz, i, 7000+i, 8<<20), pz.stream(pa, i, 7010+i, 8<<20))
				}
				return "same bytes", errors.Join(errs...)
			})
			fmt.Fprintln(&table, "|")
		})
	}
	fmt.Print("\n" + table.String() + "\n")
}

// passes pings in each family until it works, as long as the nodes need to learn of each other; size: see ping.
func passes(from, to *pod, size int) (string, error) {
	deadline := time.Now().Add(20 * time.Second)
	var times []string
	for i := range from.ips {
		for {
			err := from.ping(to.ips[i], size)
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				return "", err
			}
		}
		times = append(times, family(to.ips[i]))
	}
	return strings.Join(times, ", "), nil
}

func family(a netip.Addr) string {
	if a.Is6() {
		return "IPv6"
	}
	return "IPv4"
}

// row prints the cells of a row and fails the test for those that fail.
type row struct {
	t   *testing.T
	out *strings.Builder
}

func (r row) cell(check func() (string, error)) {
	r.t.Helper()
	text, err := check()
	if err != nil {
		r.t.Error(err)
		text = "FAILED"
	}
	fmt.Fprintf(r.out, "| %s ", text)
}
