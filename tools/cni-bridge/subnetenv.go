package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/towpath/towpath/lib/state"
)

// subnetEnv is subnet.env: what this node has been given, as flannel writes it for CNI plugins.
type subnetEnv struct {
	Networks state.Pair[string] // of the whole cluster, comma separated, as written
	Subnet   state.Pair[netip.Prefix]
	Gateway  state.Pair[netip.Addr] // the first address of Subnet
	MTU      int                    // bytes
	IPMasq   bool
}

// render is the text of subnet.env, byte for byte flannel's.
func (e subnetEnv) render() []byte {
	var b bytes.Buffer
	for _, f := range state.Families {
		if !e.Subnet.Has(f) {
			continue
		}
		v6 := ""
		if f == state.IPv6 {
			v6 = "IPV6_"
		}
		fmt.Fprintf(&b, "FLANNEL_%sNETWORK=%s\n", v6, e.Networks.Of(f))
		fmt.Fprintf(&b, "FLANNEL_%sSUBNET=%s\n", v6, netip.PrefixFrom(e.Gateway.Of(f), e.Subnet.Of(f).Bits()))
	}
	fmt.Fprintf(&b, "FLANNEL_MTU=%d\nFLANNEL_IPMASQ=%t\n", e.MTU, e.IPMasq)
	return b.Bytes()
}

// networks are the cluster's networks of both families, each once.
func (e subnetEnv) networks() []netip.Prefix {
	var all []netip.Prefix
	for _, f := range state.Families {
		seen := map[netip.Prefix]bool{}
		for cidr := range strings.SplitSeq(e.Networks.Of(f), ",") {
			if p, err := netip.ParsePrefix(cidr); err == nil && !seen[p.Masked()] {
				seen[p.Masked()] = true
				all = append(all, p.Masked())
			}
		}
	}
	return all
}

// maxSubnetEnv is the largest subnet.env that is read, bytes.
const maxSubnetEnv = 64 << 10

// loadSubnetEnv reads the file at path. A missing file is fs.ErrNotExist; any other fault is a
// *state.Error that names the file and the line or key.
func loadSubnetEnv(path string) (subnetEnv, error) {
	data, err := state.ReadFile(path, maxSubnetEnv)
	if err != nil {
		return subnetEnv{}, err
	}
	e, err := parseSubnetEnv(data)
	var key *state.KeyError
	switch {
	case errors.As(err, &key):
		return subnetEnv{}, &state.Error{Path: path, Key: key.Key, Err: key.Err}
	case err != nil:
		return subnetEnv{}, &state.Error{Path: path, Err: err}
	}
	return e, nil
}

// parseSubnetEnv reads KEY=VALUE lines. Blank lines, comments and keys of others are passed over,
// since more than one program reads and writes this file; a line that is none of these is an error.
func parseSubnetEnv(data []byte) (subnetEnv, error) {
	var e subnetEnv
	masq := false
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return e, fmt.Errorf("line %d: %q is not KEY=VALUE", n, line)
		}
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if err := e.set(key, value); err != nil {
			return e, &state.KeyError{Key: key, Err: fmt.Errorf("line %d: %w", n, err)}
		}
		masq = masq || key == "FLANNEL_IPMASQ"
	}
	if err := lines.Err(); err != nil {
		return e, err
	}
	missing := ""
	switch {
	case e.Networks == (state.Pair[string]{}):
		missing = "FLANNEL_NETWORK"
	case e.Subnet == (state.Pair[netip.Prefix]{}):
		missing = "FLANNEL_SUBNET"
	case e.MTU == 0:
		missing = "FLANNEL_MTU"
	case !masq:
		missing = "FLANNEL_IPMASQ"
	}
	if missing != "" {
		return e, &state.KeyError{Key: missing, Err: errors.New("missing")}
	}
	return e, nil
}

func (e *subnetEnv) set(key, value string) error {
	family := state.IPv4
	if strings.HasPrefix(key, "FLANNEL_IPV6_") {
		family = state.IPv6
	}
	switch key {
	case "FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK":
		for cidr := range strings.SplitSeq(value, ",") {
			if _, err := prefixOf(cidr, family); err != nil {
				return err
			}
		}
		e.Networks.Set(family, value)
	case "FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET":
		p, err := prefixOf(value, family)
		if err != nil {
			return err
		}
		if spare := p.Addr().BitLen() - p.Bits(); spare < 2 {
			return fmt.Errorf("%s has no room for a gateway and a pod", p)
		}
		e.Subnet.Set(family, p.Masked())
		e.Gateway.Set(family, p.Masked().Addr().Next())
	case "FLANNEL_MTU":
		mtu, err := strconv.ParseUint(value, 10, 16)
		if err != nil || mtu < 68 {
			return fmt.Errorf("%q is no MTU (68 to 65535)", value)
		}
		e.MTU = int(mtu)
	case "FLANNEL_IPMASQ":
		e.IPMasq = value == "true"
	}
	return nil
}

func prefixOf(cidr string, f state.Family) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(cidr)
	if err != nil {
		return p, fmt.Errorf("%q is no subnet such as 10.244.1.1/24", cidr)
	}
	if p.Addr().Is4In6() || state.FamilyOf(p.Addr()) != f {
		return p, fmt.Errorf("%q is not of %s", cidr, f)
	}
	return p, nil
}
