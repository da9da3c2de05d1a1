// Package netconf reads flannel's net-conf.json: every key of it, matched without regard to case as
// flannel does, checked whole in every mode. What is wrong is an error that names file, key and
// remedy; what is merely odd (an unknown key, a missing Backend) is a notice for the log.
package netconf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
)

// DefaultPath is where the administrator puts the file.
const DefaultPath = "/etc/towpath/net-conf.json"

// Config is net-conf.json with every default filled in.
type Config struct {
	// Network is the address range of the whole cluster, masked, for each family that is enabled.
	Network state.Pair[netip.Prefix]
	// SubnetLen is the prefix length of a node's subnet.
	SubnetLen state.Pair[int]
	// SubnetMin and SubnetMax are the first and the last subnet that may be leased. They are the first
	// and the last of Network unless the file says otherwise: flannel's etcd mode leaves the first one
	// out, but its Kubernetes mode does not, so that a cluster's first node has 10.244.0.0/24 and a /16
	// has 256 subnets of /24.
	SubnetMin state.Pair[netip.Prefix]
	SubnetMax state.Pair[netip.Prefix]
	// EnableNFTables is read for completeness; masq-sync always uses nftables.
	EnableNFTables bool
	Backend        state.Backend
}

// Enabled is the families in use, IPv4 first.
func (c Config) Enabled() []state.Family {
	var families []state.Family
	for _, f := range state.Families {
		if c.Network.Has(f) {
			families = append(families, f)
		}
	}
	return families
}

// Load reads the file at path. Notices are for the log, as warnings. A file that cannot be used is an
// error with exit status 78 that names the key; a missing one wraps fs.ErrNotExist.
func Load(path string) (cfg Config, notices []string, err error) {
	data, err := state.ReadFile(path, state.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return cfg, nil, exit.WithHint(err, `write flannel's net-conf.json there, for example {"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}`)
	}
	if err != nil {
		return cfg, nil, asConfig(err)
	}
	return Parse(path, data)
}

// Parse is Load with the bytes of the file; path is for messages only.
func Parse(path string, data []byte) (cfg Config, notices []string, err error) {
	p := parser{path: path}
	top, err := p.object("", data)
	if err != nil {
		return Config{}, nil, err
	}
	if cfg, err = p.config(top); err != nil {
		return Config{}, nil, err
	}
	return cfg, p.notices, nil
}

// asConfig gives an unreadable file the exit status of a wrong configuration.
func asConfig(err error) error {
	var e *state.Error
	if errors.As(err, &e) {
		e.Code = exit.BadConfig
	}
	return err
}

type parser struct {
	path    string
	notices []string
}

func (p *parser) notice(format string, args ...any) {
	p.notices = append(p.notices, fmt.Sprintf("%s: ", p.path)+fmt.Sprintf(format, args...))
}

// fail is a value at key that cannot be used, with what to write instead.
func (p *parser) fail(key, hint, format string, args ...any) error {
	err := error(&state.Error{Path: p.path, Key: key, Err: fmt.Errorf(format, args...), Code: exit.BadConfig})
	if hint == "" {
		return err
	}
	return exit.WithHint(err, "%s", hint)
}

// topKeys are the keys of the file in flannel's spelling.
var topKeys = []string{
	"EnableIPv4", "EnableIPv6", "EnableNFTables", "Network", "IPv6Network", "SubnetLen", "SubnetMin",
	"SubnetMax", "IPv6SubnetLen", "IPv6SubnetMin", "IPv6SubnetMax", "Backend",
}

// config reads the keys in topKeys.
func (p *parser) config(top object) (Config, error) {
	p.unknown(top, "", topKeys, "")
	var cfg Config
	enable := map[string]bool{"EnableIPv4": true, "EnableIPv6": false, "EnableNFTables": false}
	for _, key := range []string{"EnableIPv4", "EnableIPv6", "EnableNFTables"} {
		v, ok, err := decode[bool](p, top, "", key)
		if err != nil {
			return cfg, err
		}
		if ok {
			enable[key] = v
		}
	}
	cfg.EnableNFTables = enable["EnableNFTables"]
	if !enable["EnableIPv4"] && !enable["EnableIPv6"] {
		return cfg, p.fail("EnableIPv4", "leave EnableIPv4 out, or set EnableIPv6 to true", "both families are switched off")
	}
	for _, f := range families {
		if !enable[f.enable] {
			if _, ok := top.get(f.network); ok {
				p.notice("%s has no effect: %s is not true", f.network, f.enable)
			}
			continue
		}
		if err := p.family(&cfg, top, f); err != nil {
			return cfg, err
		}
	}
	return cfg, p.backend(&cfg, top)
}

// object is a JSON object with its keys in the order and spelling of the file.
type object []member

type member struct {
	key string
	raw json.RawMessage
}

// get is the value of the last key that equals name but for case, as encoding/json would have it. A
// null counts as absent.
func (o object) get(name string) (json.RawMessage, bool) {
	for _, m := range slices.Backward(o) {
		if strings.EqualFold(m.key, name) {
			return m.raw, string(m.raw) != "null"
		}
	}
	return nil, false
}

// object splits a JSON object into its members.
func (p *parser) object(key string, data []byte) (object, error) {
	var probe map[string]json.RawMessage
	if err := state.Decode(data, &probe); err != nil {
		if json.Valid(data) {
			return nil, p.fail(key, "", "%s where an object {…} belongs", kind(data))
		}
		return nil, p.fail(key, "", "%w", err)
	}
	if probe == nil {
		return nil, p.fail(key, "", "null where an object {…} belongs")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	_, _ = dec.Token() // the brace
	var o object
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, p.fail(key, "", "%w", err)
		}
		m := member{key: fmt.Sprint(name)}
		if err := dec.Decode(&m.raw); err != nil {
			return nil, p.fail(key, "", "%w", err)
		}
		o = append(o, m)
	}
	return o, nil
}

// unknown notes the keys of o that are not among known, and those given twice. where is the path of
// o ("Backend."), of is what the keys belong to.
func (p *parser) unknown(o object, where string, known []string, of string) {
	seen := map[string]string{}
	for _, m := range o {
		folded := strings.ToLower(m.key)
		if first, twice := seen[folded]; twice {
			p.notice("key %q is given twice (%q, %q): the last one counts", where+m.key, first, m.key)
		}
		seen[folded] = m.key
		if slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, m.key) }) {
			continue
		}
		text := fmt.Sprintf("unknown key %q%s has no effect", where+m.key, of)
		if near := nearest(m.key, known); near != "" {
			text += fmt.Sprintf(": is %q meant?", where+near)
		}
		p.notice("%s", text)
	}
}

// misspelt is the unknown key of o that looks most like the one wanted; "" when none does.
func misspelt(o object, known []string, want string) string {
	for _, m := range o {
		if !slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, m.key) }) && nearest(m.key, known) == want {
			return m.key
		}
	}
	return ""
}

// decode reads the boolean, number or string at key; ok is false when it is absent.
func decode[T bool | int | string](p *parser, o object, where, key string) (v T, ok bool, err error) {
	raw, ok := o.get(key)
	if !ok {
		return v, false, nil
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, false, p.wrongType(where+key, raw, v)
	}
	return v, true, nil
}

func (p *parser) wrongType(key string, raw json.RawMessage, like any) error {
	want, hint := "a string", `put it in quotes`
	switch like.(type) {
	case bool:
		want, hint = "true or false", "write it without quotes"
	case int:
		want, hint = "a whole number", "write it in digits, without quotes"
	}
	return p.fail(key, hint, "%s where %s belongs", kind(raw), want)
}

// kind names a JSON value for people.
func kind(raw []byte) string {
	switch raw = bytes.TrimSpace(raw); {
	case len(raw) == 0:
		return "nothing"
	case raw[0] == '{':
		return "an object"
	case raw[0] == '[':
		return "a list"
	case len(raw) <= 40:
		return string(raw)
	case raw[0] == '"':
		return "a long string"
	}
	return "a long number"
}
