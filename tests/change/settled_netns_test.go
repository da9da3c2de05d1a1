//go:build netns

package change

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/netconf"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tests/node"
)

// sockets are a node's, for looking at it often.
type sockets struct {
	conn   *nl.Conn
	socket *nl.Socket
}

func (m *member) open() {
	m.t.Helper()
	var err error
	m.Do(func() {
		if m.conn, err = nl.Open(); err == nil {
			m.socket, err = nl.OpenSocket()
		}
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { m.conn.Close(); m.socket.Close() })
}

// settled says in what the site is not yet as the nodes' net-conf.json ask, or "".
func (s *site) settled() string {
	for _, m := range s.nodes {
		if why := m.settled(); why != "" {
			return m.name + ": " + why
		}
	}
	return ""
}

// settled says in what a node is not yet as asked for, or "".
func (m *member) settled() string {
	index, lease, link, why := m.moved()
	if why != "" {
		return why
	}
	return m.routed(index, lease, link)
}

// moved says why the node's own end of the tunnel is not yet as asked for, or "" and the device that routes have to lead over.
func (m *member) moved() (index int, lease state.Lease, link state.Link, why string) {
	fail := func(format string, args ...any) (int, state.Lease, state.Link, string) {
		return 0, lease, link, fmt.Sprintf(format, args...)
	}
	conf, _, err := netconf.Load(m.netConf)
	if err != nil {
		return fail("%v", err)
	}
	lease, err = state.Load[state.Lease](m.run.Lease())
	if err != nil {
		return fail("%v", err)
	}
	link, err = state.Load[state.Link](m.run.Link())
	if err != nil {
		return fail("%v", err)
	}
	conf.Backend.Raw = nil
	switch {
	case !reflect.DeepEqual(lease.Backend, conf.Backend):
		return fail("lease.json has the back end %+v, asked for is %+v", lease.Backend, conf.Backend)
	case lease.Network != conf.Network:
		return fail("lease.json has the network %v", lease.Network)
	case link.Publish.Type != conf.Backend.Type:
		return fail("link.json is of %s", link.Publish.Type)
	case link.DirectRouting != conf.Backend.DirectRouting:
		return fail("link.json has direct routing %v", link.DirectRouting)
	}
	if index, why = m.device(conf.Backend, lease, link.Device.IPv4); why != "" {
		return fail("%s", why)
	}
	return index, lease, link, ""
}

// routed says why the routes to the others are not yet over the device, or "".
func (m *member) routed(index int, lease state.Lease, link state.Link) string {
	routes := map[string]nl.Route{}
	if err := m.socket.Routes(nl.ProtocolTowpath, func(r nl.Route) { routes[r.Dst.String()] = r }); err != nil {
		return err.Error()
	}
	if len(routes) != len(m.nodes)-1 {
		return fmt.Sprintf("there are %d routes", len(routes))
	}
	for _, peer := range m.nodes {
		if peer == m {
			continue
		}
		theirs, err := state.Load[state.Lease](peer.run.Lease())
		if err != nil {
			return err.Error()
		}
		r, ok := routes[theirs.Subnet.IPv4.String()]
		straight := link.DirectRouting || lease.Backend.Type == "host-gw"
		switch {
		case !ok:
			return fmt.Sprintf("no route to %s", theirs.Subnet.IPv4)
		case r.Link != index:
			return fmt.Sprintf("the route to %s is over device %d, not %d", theirs.Subnet.IPv4, r.Link, index)
		case straight && r.Gateway != theirs.PublicIP.IPv4:
			return fmt.Sprintf("the route to %s is via %s, not %s", theirs.Subnet.IPv4, r.Gateway, theirs.PublicIP.IPv4)
		}
	}
	return ""
}

// device is the index of the device that routes have to lead over, and what is wrong with the tunnel.
func (m *member) device(b state.Backend, lease state.Lease, d state.Device) (index int, why string) {
	uplink, ok, err := m.conn.Link(lease.Interface.Name)
	if err != nil || !ok {
		return 0, fmt.Sprintf("%s: %v", lease.Interface.Name, err)
	}
	if lease.Interface.MTU != uplink.MTU {
		return 0, fmt.Sprintf("lease.json has the MTU %d", lease.Interface.MTU)
	}
	addrs, err := m.conn.Addrs(uplink.Index)
	if err != nil || !slices.ContainsFunc(addrs, func(a nl.Addr) bool { return a.Prefix.Addr() == lease.Interface.IP.IPv4 }) {
		return 0, fmt.Sprintf("%s is not %s's: %v", lease.Interface.IP.IPv4, uplink.Name, err)
	}
	if b.Type == "host-gw" {
		if d.Name != uplink.Name || d.MTU != uplink.MTU {
			return 0, fmt.Sprintf("link.json has device %+v", d)
		}
		return uplink.Index, ""
	}
	outer := uplink.MTU
	if b.MTU > 0 {
		outer = b.MTU
	}
	all, err := m.conn.VXLANs()
	if err != nil {
		return 0, err.Error()
	}
	for _, v := range all {
		switch {
		case v.Name != fmt.Sprintf("flannel.%d", b.VNI):
		case v.VNI != b.VNI || v.Port != b.Port || v.MTU != outer-50 || !v.Up || v.Local != lease.Interface.IP.IPv4 || v.Parent != uplink.Index:
			return 0, fmt.Sprintf("device %+v", v)
		case d.Name != v.Name || d.MTU != v.MTU || d.VtepMAC != v.MAC:
			return 0, fmt.Sprintf("link.json has device %+v", d)
		case b.DirectRouting:
			return uplink.Index, ""
		default:
			return v.Index, ""
		}
	}
	return 0, fmt.Sprintf("no device of VNI %d", b.VNI)
}

// atRest wants every program's plan to be empty, and all to be well.
func (m *member) atRest() {
	m.t.Helper()
	m.until(m.name+" is well", func() string {
		if text, well := m.status(); !well {
			return text
		}
		return ""
	})
	for _, name := range []string{"vxlan-setup", "hostgw-setup", "route-sync", "masq-sync"} {
		m.until(m.name+": "+name+" has nothing left to do", func() string { // what a peer does last is followed after it
			out, err := m.Try(node.Binary(m.t, name), "plan", "--run-dir", string(m.run))
			if strings.Contains(out, ".json: no such file") || strings.Contains(out, ".json\": no such file") || out == "" {
				return ""
			}
			return fmt.Sprintf("%v\n%s", err, out)
		})
	}
}
