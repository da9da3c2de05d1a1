package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/plan"
)

// wireguard is what a device holds.
type wireguard struct {
	Key   secret
	Port  int
	Peers map[wgtypes.Key]held
}

// held is a peer as a device holds it.
type held struct {
	peer
	Asked          netip.AddrPort // the endpoint that it was last given, as far as this process knows
	Handshake      time.Time      // zero: never
	Sent, Received int64          // bytes
}

// control reads and sets WireGuard devices, the kernel's by netlink, those of a process by the socket that wg(8) uses too.
type control struct{ *wgctrl.Client }

func openControl() (*control, error) {
	client, err := wgctrl.New()
	if err != nil {
		return nil, fmt.Errorf("open WireGuard's control: %w", err)
	}
	return &control{client}, nil
}

// device reads a device; ok is false when there is none, or the process that carried it is gone.
func (c *control) device(name string) (w wireguard, ok bool, err error) {
	d, err := c.Device(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return w, false, nil
	}
	if err != nil {
		return w, false, fmt.Errorf("read WireGuard device %s: %w", name, err)
	}
	w = wireguard{Key: secret(d.PrivateKey), Port: d.ListenPort, Peers: make(map[wgtypes.Key]held, len(d.Peers))}
	for _, p := range d.Peers {
		h := held{Handshake: p.LastHandshakeTime, Sent: p.TransmitBytes, Received: p.ReceiveBytes}
		if p.LastHandshakeTime.Unix() <= 0 {
			h.Handshake = time.Time{}
		}
		h.PSK, h.Keepalive = secret(p.PresharedKey), p.PersistentKeepaliveInterval
		if p.Endpoint != nil {
			end := p.Endpoint.AddrPort()
			h.Endpoint = netip.AddrPortFrom(end.Addr().Unmap(), end.Port())
		}
		for _, a := range p.AllowedIPs {
			if ip, ok := netip.AddrFromSlice(a.IP); ok {
				ones, _ := a.Mask.Size()
				h.Allowed = append(h.Allowed, netip.PrefixFrom(ip.Unmap(), ones))
			}
		}
		slices.SortFunc(h.Allowed, comparePrefix)
		w.Peers[p.PublicKey] = h
	}
	return w, true, nil
}

func (c *control) set(name string, cfg wgtypes.Config) error {
	err := c.ConfigureDevice(name, cfg)
	if err == nil {
		return nil
	}
	if _, number, ok := strings.Cut(err.Error(), "errno="); ok { // how the userspace implementation answers
		if n, convErr := strconv.Atoi(number); convErr == nil && n != 0 {
			err = syscall.Errno(max(n, -n))
		}
	}
	return &exit.Error{Code: exit.Refused, Err: err}
}

// setting is one `wg set`.
type setting struct {
	control *control
	device  string
	text    string
	config  wgtypes.Config
	done    func() // nil: nothing else
}

func (s *setting) String() string { return "wg set " + s.device + " " + s.text }

func (s *setting) Do(context.Context) error {
	err := s.control.set(s.device, s.config)
	if err == nil && s.done != nil {
		s.done()
	}
	return err
}

// peerSetting is a setting of one peer, which concerns no other.
type peerSetting struct{ setting }

// atOnce is how many peers are set in one go.
const atOnce = 100

// Joins is plan.Many.
func (s *peerSetting) Joins(next plan.Op) bool {
	n, ok := next.(*peerSetting)
	return ok && n.device == s.device
}

// DoMany is plan.Many. A device takes peers in order and stops at the first that it refuses, so these are tried alone then.
func (s *peerSetting) DoMany(_ context.Context, ops []plan.Op) []error {
	var errs []error
	for some := range slices.Chunk(ops, atOnce) {
		var all wgtypes.Config
		for _, op := range some {
			all.Peers = append(all.Peers, op.(*peerSetting).config.Peers...)
		}
		whole := s.control.set(s.device, all)
		for _, op := range some {
			one := op.(*peerSetting)
			err := whole
			if whole != nil && len(some) > 1 {
				err = s.control.set(s.device, one.config)
			}
			if err == nil && one.done != nil {
				one.done()
			}
			errs = append(errs, err)
		}
	}
	return errs
}

func ipNets(prefixes []netip.Prefix) []net.IPNet {
	nets := make([]net.IPNet, len(prefixes))
	for i, p := range prefixes {
		nets[i] = net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
	}
	return nets
}
