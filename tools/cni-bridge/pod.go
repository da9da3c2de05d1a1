package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
)

// vethName is the host end's name. It comes from the attachment's, so that a DEL without a namespace
// and the retry of an ADD that was killed find it without a search. It begins as the reference
// plugin's, which NetworkManager leaves alone.
func vethName(h holder) string {
	sum := sha256.Sum256([]byte(h.file()))
	return "veth" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:11]
}

// pod is what is to be made for one attachment.
type pod struct {
	holder
	network string
	conf    bridgeConf
	netns   *nl.Netns
	mtu     int
	mac     nl.MAC
	grants  []grant
	routes  []types.Route
	closed  bool // the host end stays down, and so is no port that forwards, until connect
}

func (p pod) port() nl.Port {
	return nl.Port{Hairpin: p.conf.Hairpin, Isolated: p.conf.Isolated, Alias: aliasOf(p.network, p.holder)}
}

// connect sets the host end up.
func (p pod) connect(s *nl.Socket) error { return s.Do(nl.SetPort(vethName(p.holder), p.port())) }

// plugIn makes the veth pair in one write and returns the host end's MAC.
func (p pod) plugIn(s *nl.Socket, br nl.Device) (nl.MAC, error) {
	name := vethName(p.holder)
	v := nl.Veth{
		Name: name, MAC: randomMAC(), MTU: p.mtu, Bridge: br.Index,
		Peer: p.Interface, PeerMAC: p.mac, Netns: p.netns,
	}
	port := p.port()
	port.Down = p.closed
	plug := []nl.Change{nl.AddVeth(v), nl.NoLinkLocal(name), nl.SetPort(name, port)}
	err := s.Do(plug...)
	if errors.Is(err, unix.EEXIST) {
		// Left by an ADD that was killed, or this is an ADD repeated: made anew, whatever state it is in.
		if _, ok, lookErr := s.Device(name); lookErr != nil || !ok {
			return v.MAC, errors.Join(fmt.Errorf("device %q is in the pod already: %w", p.Interface, err), lookErr)
		}
		if err = s.Do(nl.DeleteLink(name)); err == nil {
			err = s.Do(plug...)
		}
	}
	if err != nil {
		return v.MAC, err
	}
	return v.MAC, setOptional("net/ipv6/conf/"+name+"/accept_ra", "0")
}

// furnish gives the pod's end its addresses and routes from inside the pod's namespace, in one write, or
// where the host end is not up yet in two: connect comes between them, so that what the kernel sends when
// the pod's end goes up (announcements, probes for duplicates) finds the way open.
func (p pod) furnish(connect func() error) error {
	return p.netns.Do(func() error {
		if err := p.tune(); err != nil {
			return err
		}
		s, err := nl.OpenSocket()
		if err != nil {
			return err
		}
		defer s.Close() //nolint:errcheck // nothing is buffered
		dev, ok, err := s.Device(p.Interface)
		if err != nil || !ok {
			return errors.Join(err, fmt.Errorf("device %q went away while the pod was being set up", p.Interface))
		}
		var changes []nl.Change
		for _, g := range p.grants {
			changes = append(changes, nl.AddrChange{Verb: nl.Replace, Prefix: g.Address, Link: dev.Index, Dev: dev.Name, DAD: p.conf.EnableDAD})
		}
		if p.closed {
			if err := s.Do(changes...); err != nil {
				return err
			}
			changes = nil
		}
		if err := connect(); err != nil {
			return err
		}
		changes = append(changes, nl.SetUp(dev.Index, dev.Name))
		for _, r := range p.routes {
			c, err := p.route(r, dev)
			if err != nil {
				return err
			}
			changes = append(changes, c)
		}
		if err := s.Do(changes...); err != nil {
			return err
		}
		if p.conf.EnableDAD {
			return settle(s, dev)
		}
		return nil
	})
}

// tune sets what has to be so before the device is up. The kernel announces the addresses itself.
func (p pod) tune() error {
	v4, v6 := "net/ipv4/conf/"+p.Interface+"/", "net/ipv6/conf/"+p.Interface+"/"
	dad := "0"
	if p.conf.EnableDAD {
		dad = "1"
		if err := setOptional(v6+"enhanced_dad", "1"); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(p.grants, func(g grant) bool { return g.Addr.Is6() }) {
		if err := errors.Join(enableIPv6("lo"), enableIPv6(p.Interface)); err != nil {
			return err
		}
	}
	return errors.Join(
		setOptional(v4+"arp_notify", "1"),
		setOptional(v6+"ndisc_notify", "1"),
		setOptional(v6+"accept_dad", dad),
		setOptional(v6+"accept_ra", "0"), // of another pod on the bridge
	)
}

// route fills in a route's gateway: that of its family, as the reference plugins do.
func (p pod) route(r types.Route, dev nl.Device) (nl.Change, error) {
	dst, ok := prefixOfNet(r.Dst)
	if !ok {
		return nil, fmt.Errorf("route to %q: no destination", r.Dst.String())
	}
	c := nl.PathChange{
		RouteChange: nl.RouteChange{
			Verb: nl.Replace, Dev: dev.Name,
			Route: nl.Route{Dst: dst.Masked(), Link: dev.Index, Metric: uint32(r.Priority), Protocol: nl.ProtocolBoot},
		},
		Scope: -1, MTU: r.MTU, AdvMSS: r.AdvMSS,
	}
	if r.Table != nil {
		c.Table = *r.Table
	}
	if r.Scope != nil {
		c.Scope = *r.Scope
	}
	if gw, ok := netip.AddrFromSlice(r.GW); ok {
		c.Route.Gateway = gw.Unmap()
	} else if c.Scope < unix.RT_SCOPE_LINK {
		c.Route.Gateway = p.gateway(dst.Addr().Is4())
	}
	return c, nil
}

func (p pod) gateway(v4 bool) netip.Addr {
	for _, g := range p.grants {
		if g.Addr.Is4() == v4 {
			return g.Span.Gateway
		}
	}
	return netip.Addr{}
}

// randomMAC is a locally administered unicast address.
func randomMAC() nl.MAC {
	var m nl.MAC
	_, _ = rand.Read(m[:]) // never fails
	m[0] = m[0]&^1 | 2
	return m
}

func isReadOnly(err error) bool { return errors.Is(err, unix.EROFS) }

// unplug removes both ends by the host's, or where that is not of our making by the pod's.
func unplug(s *nl.Socket, h holder, netns string) error {
	if _, ok, err := s.Device(vethName(h)); err != nil || ok {
		return errors.Join(err, s.Do(nl.DeleteLink(vethName(h))))
	}
	if netns == "" {
		return nil
	}
	n, err := nl.OpenNetns(netns)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, nl.ErrNoNetns) {
		return nil // gone, and its devices with it
	}
	if err != nil {
		return err
	}
	defer n.Close() //nolint:errcheck // nothing is buffered
	own, err := nl.OwnNetns()
	if err != nil {
		return err
	}
	defer own.Close() //nolint:errcheck // nothing is buffered
	if own.Same(n) {
		return nil
	}
	return n.Do(func() error {
		s, err := nl.OpenSocket()
		if err != nil {
			return err
		}
		defer s.Close() //nolint:errcheck // nothing is buffered
		dev, ok, err := s.Device(h.Interface)
		if err != nil || !ok || dev.Kind != "veth" {
			return err
		}
		return s.Do(nl.DeleteLink(dev.Name))
	})
}

// settle waits until duplicate address detection is through with the device's addresses.
func settle(s *nl.Socket, dev nl.Device) error {
	for end := time.Now().Add(settleTimeout); ; <-time.After(10 * time.Millisecond) {
		addrs, err := s.Addrs(dev.Index, true)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(addrs, func(a nl.Addr) bool { return a.Unusable })
		switch {
		case i < 0:
			return nil
		case time.Now().After(end):
			return exit.Errorf(exit.TryAgain, "address %s on %q: duplicate address detection has not let it through", addrs[i].Prefix, dev.Name)
		}
	}
}

// works waits until the kernel has put a device to work, a moment after its carrier came: what is sent to the pod before is lost.
func works(s *nl.Socket, name string) error {
	for end := time.Now().Add(settleTimeout); ; sleep(200 * time.Microsecond) {
		d, ok, err := s.Device(name)
		switch {
		case err != nil || ok && d.Works:
			return err
		case !ok:
			return exit.Errorf(exit.TryAgain, "device %q went away while the pod was being set up", name)
		case time.Now().After(end):
			return exit.Errorf(exit.TryAgain, "device %q does not come up", name)
		}
	}
}

const settleTimeout = 10 * time.Second
