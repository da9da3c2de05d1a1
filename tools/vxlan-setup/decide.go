package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/setup"
	"github.com/towpath/towpath/lib/state"
)

const (
	backend     = "vxlan"
	defaultPort = 8472 // Linux's and flannel's, not IANA's 4789
	maxVNI      = 1<<24 - 1
	maxName     = 15 // of a device
)

// families is what differs between the two.
var families = map[state.Family]struct {
	prefix   string
	overhead int // outer headers: Ethernet 14, IPv4 20 or IPv6 40, UDP 8, VXLAN 8
	leastMTU int
}{
	state.IPv4: {"flannel.", 50, 68},
	state.IPv6: {"flannel-v6.", 70, 1280},
}

// decide turns the input into devices and into link.json. What it refuses leaves the kernel as it is.
func decide(path string, in state.BackendInput, have observed, takeOver bool) ([]device, state.Link, error) {
	bad := func(key, format string, args ...any) error {
		return &state.Error{Path: path, Key: key, Err: fmt.Errorf(format, args...)}
	}
	b := in.Backend
	if b.Port == 0 {
		b.Port = defaultPort
	}
	switch {
	case b.Type != backend:
		return nil, state.Link{}, bad("backend.type", "%q where %q belongs", b.Type, backend)
	case b.VNI < 1 || b.VNI > maxVNI:
		return nil, state.Link{}, bad("backend.vni", "%d is no VNI (1 to %d)", b.VNI, maxVNI)
	case b.Port < 1 || b.Port > 65535:
		return nil, state.Link{}, bad("backend.port", "%d is no UDP port", b.Port)
	}
	uplink, outer, err := have.Outer(path, in)
	if err != nil {
		return nil, state.Link{}, err
	}
	link := state.Link{
		Version: state.Version, Uplink: uplink.Name, DirectRouting: b.DirectRouting, Publish: state.Published{Type: backend},
	}
	var want []device
	for _, f := range state.Families {
		if !in.Subnet.Has(f) {
			continue
		}
		w := device{Below: uplink.Name, Address: setup.Host(in.Subnet.Of(f))}
		w.Name = fmt.Sprintf("%s%d", families[f].prefix, b.VNI)
		w.MTU = outer - families[f].overhead
		w.VXLANSpec = nl.VXLANSpec{VNI: b.VNI, Port: b.Port, Parent: uplink.Index, Learning: b.Learning, GBP: b.GBP, Local: have.Source(in, f)}
		switch {
		case len(w.Name) > maxName:
			return nil, state.Link{}, bad("backend.vni", "%d makes the device's name %q longer than %d", b.VNI, w.Name, maxName)
		case w.MTU < families[f].leastMTU:
			return nil, state.Link{}, bad("interface.mtu", "%d leaves %d inside the tunnel, %s needs %d", outer, w.MTU, f, families[f].leastMTU)
		case !w.Local.IsValid():
			return nil, state.Link{}, bad("interface.ip."+string(f), "missing, but the subnet has an %s part", f)
		}
		if err := refuse(w, have, takeOver); err != nil {
			return want, state.Link{}, err
		}
		mac, err := chooseMAC(w, in.Previous, f, have)
		if err != nil {
			return nil, state.Link{}, err
		}
		w.MAC = mac
		want = append(want, w)
		link.Device.Set(f, state.Device{Name: w.Name, MTU: w.MTU, VNI: w.VNI, VtepMAC: w.MAC})
		if link.MTU == 0 || w.MTU < link.MTU {
			link.MTU = w.MTU
		}
		published := state.VXLANData{VNI: w.VNI, VtepMAC: w.MAC}
		if w.Port != defaultPort {
			published.Port = w.Port
		}
		data, err := json.Marshal(published)
		if err != nil {
			return nil, state.Link{}, err
		}
		if f == state.IPv6 {
			link.Publish.DataV6 = data
		} else {
			link.Publish.Data = data
		}
	}
	return want, link, nil
}

// refuse keeps our hands off devices that are not ours.
func refuse(w device, have observed, takeOver bool) error {
	is, ok := have.Links[w.Name]
	v, isVXLAN := have.VXLANs[w.Name]
	if ok && is.Alias != nl.Mark && !takeOver && (!isVXLAN || !fits(w, v)) {
		return exit.WithHint(exit.Errorf(exit.Refused, "device %q: a %s that towpath did not make and that does not fit%s", w.Name, is.Kind, misfit(w, v, isVXLAN)),
			"delete it, or let --take-over replace it")
	}
	for _, name := range slices.Sorted(maps.Keys(have.VXLANs)) {
		o := have.VXLANs[name]
		if name != w.Name && o.Alias != nl.Mark && o.VNI == w.VNI && o.Port == w.Port && o.Local.Is6() == w.Local.Is6() {
			return exit.WithHint(exit.Errorf(exit.Refused, "device %q: %q has VNI %d and port %d already", w.Name, name, w.VNI, w.Port),
				"choose another VNI or Port in net-conf.json, on every node, or delete %s", name)
		}
	}
	return nil
}

func misfit(w device, v nl.VXLAN, isVXLAN bool) string {
	switch {
	case !isVXLAN:
		return ""
	case v.VNI != w.VNI:
		return fmt.Sprintf(" (VNI %d, not %d)", v.VNI, w.VNI)
	case v.Port != w.Port:
		return fmt.Sprintf(" (port %d, not %d)", v.Port, w.Port)
	case v.Local != w.Local:
		return fmt.Sprintf(" (local %s, not %s)", v.Local, w.Local)
	case v.Parent != w.Parent:
		return fmt.Sprintf(" (not on %s)", w.Below)
	}
	return " (other flags)"
}

// chooseMAC keeps the address that the other nodes know for as long as anybody remembers it.
func chooseMAC(w device, previous state.Published, f state.Family, have observed) (string, error) {
	var published state.VXLANData
	data := previous.Data
	if f == state.IPv6 {
		data = previous.DataV6
	}
	if previous.Type == backend {
		_ = json.Unmarshal(data, &published) // what cannot be read is not remembered
	}
	last := have.Last.Device.Of(f)
	is, exists := have.VXLANs[w.Name]
	var candidates []string
	if exists && is.Alias == nl.Mark && last.Name == w.Name {
		candidates = append(candidates, last.VtepMAC) // we made it so and said so: what differs has drifted
	}
	if exists {
		candidates = append(candidates, is.MAC)
	}
	candidates = append(candidates, published.VtepMAC, last.VtepMAC)
	for _, c := range candidates {
		if mac, err := nl.ParseMAC(c); err == nil {
			return mac.String(), nil
		}
	}
	return randomMAC()
}

// randomMAC is a locally administered unicast address.
func randomMAC() (string, error) {
	var mac nl.MAC
	if _, err := rand.Read(mac[:]); err != nil {
		return "", errors.New("no random numbers")
	}
	mac[0] = mac[0]&^1 | 2
	return mac.String(), nil
}
