package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// grant is an address that a pod has been given.
type grant struct {
	Addr    netip.Addr
	Span    span
	Address netip.Prefix // with the length of the subnet
}

// reserve gives the attachment one address of each set: one that it holds already (an ADD repeated),
// one that was asked for, or a free one. Addresses that it holds beside these, of a subnet that the
// node no longer has, are released.
func (a *attachment) reserve(sets []spanSet, asked []netip.Addr, netns string, dead func(record, holder) bool) ([]grant, error) {
	var grants []grant
	err := a.store.locked(func() error {
		held := a.addresses()
		var fresh []int
		for n, set := range sets {
			ip, err := a.choose(set, n, held, asked)
			var full *exhaustedError
			if errors.As(err, &full) && a.store.reclaim(dead) > 0 {
				ip, err = a.store.find(set, n)
			}
			if err != nil {
				return err
			}
			if !slices.Contains(held, ip) {
				fresh = append(fresh, n)
			}
			s, _ := set.of(ip)
			grants = append(grants, grant{Addr: ip, Span: s, Address: netip.PrefixFrom(ip, s.Subnet.Bits())})
		}
		return a.commit(grants, fresh, held, netns)
	})
	return grants, err
}

// choose picks an address of one set.
func (a *attachment) choose(set spanSet, n int, held, asked []netip.Addr) (netip.Addr, error) {
	for _, ip := range asked {
		s, in := set.of(ip)
		switch {
		case !in:
			continue
		case ip == s.Gateway:
			return ip, fmt.Errorf("the requested address %s is the gateway's", ip)
		case !slices.Contains(held, ip) && !a.store.free(ip):
			return ip, fmt.Errorf("the requested address %s is in use", ip)
		}
		return ip, nil
	}
	for _, ip := range held {
		if s, in := set.of(ip); in && ip != s.Gateway {
			return ip, nil
		}
	}
	return a.store.find(set, n)
}

// commit writes the index first and the address files after it.
func (a *attachment) commit(grants []grant, fresh []int, held []netip.Addr, netns string) error {
	r := record{BootID: a.store.bootID, Netns: netns, IPs: slices.Clone(held)}
	var given []netip.Addr
	for _, g := range grants {
		given = append(given, g.Addr)
		if !slices.Contains(r.IPs, g.Addr) {
			r.IPs = append(r.IPs, g.Addr)
		}
	}
	if err := a.write(r); err != nil {
		return err
	}
	for _, n := range fresh {
		if err := a.store.take(a.holder, grants[n].Addr); err != nil {
			return errors.Join(err, a.store.release(a.holder, given))
		}
		a.store.setLast(n, grants[n].Addr)
	}
	return a.store.release(a.holder, slices.DeleteFunc(held, func(ip netip.Addr) bool { return slices.Contains(given, ip) }))
}

// reclaim frees the addresses of attachments that dead says cannot live, and returns how many it
// forgot. Attachments that are being worked on are let be. Call it locked.
func (s *store) reclaim(dead func(record, holder) bool) int {
	all, _ := s.attachments() // what cannot be listed is not reclaimed
	count := 0
	for _, h := range all {
		a, err := s.openEntry(h, os.O_RDWR, unix.LOCK_EX|unix.LOCK_NB)
		if err != nil {
			continue
		}
		r := a.read()
		if dead(r, h) && s.release(h, r.IPs) == nil && a.remove() == nil {
			count++
		}
		a.close()
	}
	return count
}

// asked reads the addresses that the runtime asks for; each must be in one of the sets.
func askedAddrs(texts []string, sets []spanSet) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for _, text := range texts {
		ip, err := netip.ParseAddr(text)
		if p, perr := netip.ParsePrefix(text); perr == nil {
			ip, err = p.Addr(), nil
		}
		if err != nil {
			return nil, fmt.Errorf("the requested address %q is none", text)
		}
		ip = ip.Unmap()
		if !slices.ContainsFunc(sets, func(set spanSet) bool { _, in := set.of(ip); return in }) {
			return nil, fmt.Errorf("the requested address %s is outside %v", ip, sets)
		}
		addrs = append(addrs, ip)
	}
	return addrs, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
