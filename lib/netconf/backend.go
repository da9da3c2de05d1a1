package netconf

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/typo"
)

// backend is one value of Backend.Type.
type backend struct {
	keys     []key
	ipv4Only bool
}

// key is one key of a backend object. The type of def is the type of the value.
type key struct {
	name  string
	def   any // string, int or bool
	check func(any) *valueError
	why   string // not empty: the key is known and has no effect, for this reason
}

const (
	onWindows = "it is for Windows nodes"
	mtuMin    = 576
	mtuMax    = 65535
)

// Types lists the backend types, those of towpath's first builds first.
var Types = []string{"vxlan", "host-gw", "udp", "wireguard", "ipip", "ipsec", "alloc", "extension", "tencent-vpc"}

var backends = map[string]backend{
	"vxlan": {keys: []key{
		{name: "VNI", def: 1, check: between(1, 1<<24-1)},
		{name: "Port", def: 0, check: between(0, 65535)}, // 0 is the kernel's own default
		{name: "MTU", def: 0, check: mtu},
		{name: "GBP", def: false},
		{name: "Learning", def: false},
		{name: "DirectRouting", def: false},
		{name: "Name", def: "", why: onWindows},
		{name: "MacPrefix", def: "0E-2A", why: onWindows},
	}},
	"host-gw": {},
	"udp":     {ipv4Only: true, keys: []key{{name: "Port", def: 8285, check: between(1, 65535)}}},
	"wireguard": {keys: []key{
		{name: "ListenPort", def: 51820, check: between(1, 65535)},
		{name: "ListenPortV6", def: 51821, check: between(1, 65535)},
		{name: "MTU", def: 0, check: mtu},
		{name: "PSK", def: "", check: wireguardKey},
		{name: "PersistentKeepaliveInterval", def: 0, check: between(0, 65535)}, // seconds
		{name: "Mode", def: "separate", check: oneOf("separate", "auto", "ipv4", "ipv6")},
	}},
	"ipip": {ipv4Only: true, keys: []key{{name: "DirectRouting", def: false}}},
	"ipsec": {ipv4Only: true, keys: []key{
		{name: "PSK", def: "", check: longSecret},
		{name: "UDPEncap", def: false},
		{name: "ESPProposal", def: "aes128gcm16-sha256-prfsha256-ecp256"},
	}},
	"alloc": {},
	"extension": {keys: []key{
		{name: "PreStartupCommand", def: ""},
		{name: "PostStartupCommand", def: ""},
		{name: "SubnetAddCommand", def: ""},
		{name: "SubnetRemoveCommand", def: ""},
		{name: "ShutdownCommand", def: ""}, // flannel never runs it
	}},
	"tencent-vpc": {ipv4Only: true, keys: []key{
		{name: "AccessKeyID", def: "", check: required},
		{name: "AccessKeySecret", def: "", check: required},
	}},
}

// backend reads the Backend object.
func (p *parser) backend(cfg *Config, top object) error {
	raw, ok := top.get("Backend")
	if !ok {
		p.notice("Backend is missing: vxlan is used")
		raw = json.RawMessage(`{"Type":"vxlan"}`)
	}
	o, err := p.object("Backend", raw)
	if err != nil {
		return err
	}
	hint := "use one of " + strings.Join(Types, ", ")
	typ, _, err := decode[string](p, o, "Backend.", "Type")
	if err != nil {
		return err
	}
	if typ == "" {
		return p.fail("Backend.Type", hint, "missing")
	}
	typ = strings.ToLower(typ)
	b, ok := backends[typ]
	if !ok {
		return p.fail("Backend.Type", hint, "unknown back end %q", typ)
	}
	if b.ipv4Only && (cfg.Network.Has(state.IPv6) || !cfg.Network.Has(state.IPv4)) {
		return p.fail("Backend.Type", "leave EnableIPv6 out, or use vxlan, host-gw or wireguard", "back end %q carries IPv4 only", typ)
	}
	names := []string{"Type"}
	for _, k := range b.keys {
		names = append(names, k.name)
	}
	p.unknown(o, "Backend.", names, fmt.Sprintf(" of back end %q", typ))
	values, err := p.values(o, b)
	if err != nil {
		return err
	}
	cfg.Backend, err = settings(typ, values)
	if err == nil {
		err = p.mtuFor(cfg)
	}
	return err
}

// values are the keys of o with defaults filled in, by name.
func (p *parser) values(o object, b backend) (map[string]any, error) {
	values := map[string]any{}
	for _, k := range b.keys {
		v, ok, err := p.value(o, k)
		if err != nil {
			return nil, err
		}
		if k.why != "" {
			if ok {
				p.notice("key %q has no effect: %s", "Backend."+k.name, k.why)
			}
			continue
		}
		if k.check != nil {
			if e := k.check(v); e != nil {
				return nil, p.fail("Backend."+k.name, e.remedy, "%s", e.text)
			}
		}
		values[k.name] = v
	}
	return values, nil
}

func (p *parser) value(o object, k key) (v any, ok bool, err error) {
	switch k.def.(type) {
	case bool:
		v, ok, err = decode[bool](p, o, "Backend.", k.name)
	case int:
		v, ok, err = decode[int](p, o, "Backend.", k.name)
	default:
		v, ok, err = decode[string](p, o, "Backend.", k.name)
	}
	if !ok {
		v = k.def
	}
	return v, ok, err
}

// settings turns values into the form that the other programs read.
func settings(typ string, values map[string]any) (state.Backend, error) {
	b := state.Backend{Type: typ}
	number := func(name string) int { n, _ := values[name].(int); return n }
	flag := func(name string) bool { f, _ := values[name].(bool); return f }
	b.VNI, b.Port, b.MTU = number("VNI"), number("Port")+number("ListenPort"), number("MTU")
	b.GBP, b.Learning, b.DirectRouting = flag("GBP"), flag("Learning"), flag("DirectRouting")
	if typ == "vxlan" && b.Port == 0 {
		b.Port = 8472
	}
	if typ == "vxlan" || len(values) == 0 {
		return b, nil
	}
	raw := maps.Clone(values)
	raw["Type"] = typ
	var err error
	b.Raw, err = json.Marshal(raw)
	return b, err
}

// mtuFor demands room for what the families in use require inside the tunnel (RFC 8200: 1280 bytes).
func (p *parser) mtuFor(cfg *Config) error {
	const room = 1280 + 70
	if b := cfg.Backend; b.Type == "vxlan" && b.MTU != 0 && cfg.Network.Has(state.IPv6) && b.MTU < room {
		return p.fail("Backend.MTU", fmt.Sprintf("give %d at least, or leave it out", room), "%d leaves pods less than the 1280 bytes that IPv6 demands", b.MTU)
	}
	return nil
}

// valueError is a refused value, with what to write instead.
type valueError struct{ text, remedy string }

func between(lo, hi int) func(any) *valueError {
	return func(v any) *valueError {
		if n, _ := v.(int); n < lo || n > hi {
			return &valueError{fmt.Sprintf("%d is out of range", n), fmt.Sprintf("give a number from %d to %d, or leave it out", lo, hi)}
		}
		return nil
	}
}

func mtu(v any) *valueError {
	if n, _ := v.(int); n != 0 && (n < mtuMin || n > mtuMax) {
		return &valueError{fmt.Sprintf("%d bytes is no MTU", n), fmt.Sprintf("give the MTU of the network between the nodes, %d to %d, or leave it out", mtuMin, mtuMax)}
	}
	return nil
}

func oneOf(words ...string) func(any) *valueError {
	return func(v any) *valueError {
		if s, _ := v.(string); !slices.Contains(words, s) {
			return &valueError{fmt.Sprintf("unknown value %q", s), "use one of " + strings.Join(words, ", ")}
		}
		return nil
	}
}

func required(v any) *valueError {
	if v == "" {
		return &valueError{"missing", "the back end cannot work without it"}
	}
	return nil
}

// The errors about secrets never repeat the value.

func wireguardKey(v any) *valueError {
	s, _ := v.(string)
	if raw, err := base64.StdEncoding.DecodeString(s); s != "" && (err != nil || len(raw) != 32) {
		return &valueError{"not a pre-shared key", "give the output of `wg genpsk`, or leave it out"}
	}
	return nil
}

func longSecret(v any) *valueError {
	if s, _ := v.(string); len(s) < 96 {
		return &valueError{fmt.Sprintf("%d characters where 96 at least belong", len(s)), "give the output of `openssl rand -hex 48`"}
	}
	return nil
}

// nearest is the known key that word was probably meant to be, or "".
func nearest(word string, known []string) string {
	lower := make([]string, len(known))
	for i, k := range known {
		lower[i] = strings.ToLower(k)
	}
	if i := slices.Index(lower, typo.Nearest(strings.ToLower(word), lower)); i >= 0 {
		return known[i]
	}
	return ""
}
