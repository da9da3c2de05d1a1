package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/setup"
	"github.com/towpath/towpath/lib/state"
)

const (
	backend = "wireguard"
	// overhead is flannel's for both families: IPv6 40, UDP 8, WireGuard 32. Over IPv4, 60 would do.
	overhead = 80
	leastV6  = 1280 // MTU that IPv6 demands
	leastV4  = 68
)

// The devices, named as flannel names them. The second is there only in the mode separate.
const (
	deviceName   = "flannel-wg"
	deviceNameV6 = "flannel-wg-v6"
)

// settings are flannel's keys of the back end, with its defaults.
type settings struct {
	ListenPort, ListenPortV6    int
	PSK                         string
	PersistentKeepaliveInterval int // seconds
	Mode                        string
}

// Values of Mode: a tunnel for each family, or one for both, over what fits or over one family.
const (
	modeSeparate = "separate"
	modeAuto     = "auto"
)

// tunnel is one device as it has to be.
type tunnel struct {
	Name      string
	MTU       int
	Families  []state.Family // carried inside
	Addresses []netip.Prefix // its only global ones: the bases of the subnets
	Port      int
	Key       secret
	Peers     map[wgtypes.Key]peer
}

// common is what all peers share.
type common struct {
	PSK       secret // zero: none
	Keepalive time.Duration
}

// settingsOf reads the back end's keys. No error repeats the PSK.
func settingsOf(path string, in state.BackendInput) (set settings, all common, err error) {
	bad := func(key, format string, args ...any) (settings, common, error) {
		return settings{}, common{}, &state.Error{Path: path, Key: "backend." + key, Err: fmt.Errorf(format, args...)}
	}
	set = settings{ListenPort: 51820, ListenPortV6: 51821, Mode: modeSeparate}
	if in.Backend.Type != backend {
		return bad("type", "%q where %q belongs", in.Backend.Type, backend)
	}
	if len(in.Backend.Raw) > 0 {
		var wrong *json.UnmarshalTypeError
		switch err := json.Unmarshal(in.Backend.Raw, &set); {
		case errors.As(err, &wrong):
			return bad("raw."+wrong.Field, "%s is needed", wrong.Type)
		case err != nil:
			return bad("raw", "not an object")
		}
	}
	for key, port := range map[string]int{"ListenPort": set.ListenPort, "ListenPortV6": set.ListenPortV6} {
		if port < 1 || port > 65535 {
			return bad("raw."+key, "%d is no UDP port", port)
		}
	}
	switch set.Mode {
	case modeSeparate, modeAuto, string(state.IPv4), string(state.IPv6):
	default:
		return bad("raw.Mode", "unknown value %q", set.Mode)
	}
	if set.PersistentKeepaliveInterval < 0 || set.PersistentKeepaliveInterval > 65535 {
		return bad("raw.PersistentKeepaliveInterval", "%d seconds is out of range", set.PersistentKeepaliveInterval)
	}
	all.Keepalive = time.Duration(set.PersistentKeepaliveInterval) * time.Second
	if set.PSK != "" {
		psk, err := wgtypes.ParseKey(set.PSK)
		if err != nil {
			return bad("raw.PSK", "not a pre-shared key")
		}
		all.PSK = secret(psk)
	}
	if set.Mode == modeSeparate && in.Subnet.Has(state.IPv4) && in.Subnet.Has(state.IPv6) && set.ListenPort == set.ListenPortV6 {
		return bad("raw.ListenPortV6", "%d is ListenPort as well: two tunnels cannot listen there", set.ListenPort)
	}
	return set, all, nil
}

// tunnelsOf are the devices without their peers, and link.json.
func tunnelsOf(path string, in state.BackendInput, set settings, have observed, key secret) ([]tunnel, state.Link, error) {
	bad := func(key, format string, args ...any) error {
		return &state.Error{Path: path, Key: key, Err: fmt.Errorf(format, args...)}
	}
	uplink, outer, err := have.Outer(path, in)
	if err != nil {
		return nil, state.Link{}, err
	}
	link := state.Link{Version: state.Version, Uplink: uplink.Name, MTU: outer - overhead, Publish: state.Published{Type: backend}}
	var want []tunnel
	for _, f := range state.Families {
		if !in.Subnet.Has(f) {
			continue
		}
		if least := map[state.Family]int{state.IPv4: leastV4, state.IPv6: leastV6}[f]; link.MTU < least {
			return nil, state.Link{}, bad("interface.mtu", "%d leaves %d inside the tunnel, %s needs %d", outer, link.MTU, f, least)
		}
		name, port := deviceName, set.ListenPort
		if f == state.IPv6 && set.Mode == modeSeparate {
			name, port = deviceNameV6, set.ListenPortV6
		}
		if len(want) == 0 || want[len(want)-1].Name != name {
			want = append(want, tunnel{Name: name, MTU: link.MTU, Port: port, Key: key})
		}
		w := &want[len(want)-1]
		w.Families = append(w.Families, f)
		w.Addresses = append(w.Addresses, setup.Host(in.Subnet.Of(f)))
		link.Device.Set(f, state.Device{Name: name, MTU: link.MTU})
		// In the modes with one tunnel flannel publishes ListenPortV6 for IPv6, where nothing listens; this is the port that does.
		data, err := json.Marshal(state.WireGuardData{PublicKey: key.public().String(), Port: port})
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

// refuse keeps our hands off devices that are not ours. One of the kind wanted is adopted: it is flannel's, or one that
// was made by hand, and can be made what it has to be without being made anew.
func refuse(want []tunnel, have observed, kind string, takeOver bool) error {
	for _, w := range want {
		is, ok := have.Links[w.Name]
		if ok && is.Alias != nl.Mark && !takeOver && is.Kind != kind {
			return exit.WithHint(exit.Errorf(exit.Refused, "device %q: a %s that towpath did not make", w.Name, is.Kind),
				"delete it, or let --take-over replace it")
		}
	}
	return nil
}
