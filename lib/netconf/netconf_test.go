package netconf

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
)

// show prints a configuration on one line.
func show(c Config) string {
	var out []string
	for _, f := range c.Enabled() {
		out = append(out, fmt.Sprintf("%s %s by /%d, %s to %s", f, c.Network.Of(f), c.SubnetLen.Of(f), c.SubnetMin.Of(f), c.SubnetMax.Of(f)))
	}
	b := c.Backend
	out = append(out, b.Type)
	for _, v := range []struct {
		name  string
		value any
	}{{"vni", b.VNI}, {"port", b.Port}, {"mtu", b.MTU}, {"gbp", b.GBP}, {"learning", b.Learning}, {"direct", b.DirectRouting}} {
		if v.value != 0 && v.value != false {
			out = append(out, fmt.Sprintf("%s=%v", v.name, v.value))
		}
	}
	if len(b.Raw) > 0 {
		out = append(out, string(b.Raw))
	}
	return strings.Join(out, "; ")
}

func TestParse(t *testing.T) {
	const v4 = `ipv4 10.244.0.0/16 by /24, 10.244.0.0/24 to 10.244.255.0/24; `
	for _, c := range []struct{ name, in, want, notices string }{
		{"flannel's own", `{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}`, v4 + "vxlan; vni=1; port=8472", ""},
		{"any case", `{"network":"10.244.0.0/16","BACKEND":{"type":"VXLAN","vni":7,"port":4789,"directrouting":true}}`, v4 + "vxlan; vni=7; port=4789; direct=true", ""},
		{"no back end", `{"Network":"10.244.0.0/16"}`, v4 + "vxlan; vni=1; port=8472", "Backend is missing: vxlan is used"},
		{"null back end", `{"Network":"10.244.0.0/16","Backend":null}`, v4 + "vxlan; vni=1; port=8472", "Backend is missing: vxlan is used"},
		{
			"typing errors", `{"Network":"10.244.0.0/16","Bakend":{"Type":"host-gw"},"Comment":1,"Backend":{"Type":"vxlan","DirectRoutin":true,"PSK":"x"}}`,
			v4 + "vxlan; vni=1; port=8472",
			`unknown key "Bakend" has no effect: is "Backend" meant?|unknown key "Comment" has no effect|` +
				`unknown key "Backend.DirectRoutin" of back end "vxlan" has no effect: is "Backend.DirectRouting" meant?|` +
				`unknown key "Backend.PSK" of back end "vxlan" has no effect`,
		},
		{
			"given twice", `{"Network":"10.1.0.0/16","network":"10.244.0.0/16","Backend":{"Type":"host-gw"}}`, v4 + "host-gw",
			`key "network" is given twice ("Network", "network"): the last one counts`,
		},
		{"host bits", `{"Network":"10.244.9.9/16","Backend":{"Type":"host-gw"}}`, v4 + "host-gw", "Network 10.244.9.9/16 has host bits set: it is read as 10.244.0.0/16"},
		{
			"all of vxlan", `{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan","VNI":4096,"Port":0,"MTU":9000,"GBP":true,"Learning":true,"DirectRouting":true,"MacPrefix":"0E-2B"}}`,
			v4 + "vxlan; vni=4096; port=8472; mtu=9000; gbp=true; learning=true; direct=true", `key "Backend.MacPrefix" has no effect: it is for Windows nodes`,
		},
		{
			"bounds as addresses", `{"Network":"10.244.0.0/16","SubnetLen":24,"SubnetMin":"10.244.10.0","SubnetMax":"10.244.12.0","Backend":{"Type":"host-gw"}}`,
			"ipv4 10.244.0.0/16 by /24, 10.244.10.0/24 to 10.244.12.0/24; host-gw", "",
		},
		{
			"bounds as subnets", `{"Network":"10.244.0.0/16","SubnetMin":"10.244.10.0/24","SubnetMax":"10.244.10.0/24","Backend":{"Type":"host-gw"}}`,
			"ipv4 10.244.0.0/16 by /24, 10.244.10.0/24 to 10.244.10.0/24; host-gw", "",
		},
		{"small network", `{"Network":"10.9.8.0/23","Backend":{"Type":"host-gw"}}`, "ipv4 10.9.8.0/23 by /25, 10.9.8.0/25 to 10.9.9.128/25; host-gw", ""},
		{"smallest network", `{"Network":"10.9.8.16/28","SubnetLen":0,"Backend":{"Type":"host-gw"}}`, "ipv4 10.9.8.16/28 by /30, 10.9.8.16/30 to 10.9.8.28/30; host-gw", ""},
		{
			"dual stack", `{"EnableIPv6":true,"Network":"10.244.0.0/16","IPv6Network":"fd00:10:244::/48","Backend":{"Type":"vxlan"}}`,
			v4 + "ipv6 fd00:10:244::/48 by /64, fd00:10:244::/64 to fd00:10:244:ffff::/64; vxlan; vni=1; port=8472", "",
		},
		{
			"IPv6 alone", `{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/60","IPv6SubnetLen":64,"IPv6SubnetMin":"fd00:0:0:2::","IPv6SubnetMax":"fd00:0:0:3::/64","Backend":{"Type":"host-gw"}}`,
			"ipv6 fd00::/60 by /64, fd00:0:0:2::/64 to fd00:0:0:3::/64; host-gw", "",
		},
		{"IPv6 not enabled", `{"Network":"10.244.0.0/16","IPv6Network":"fd00::/48","Backend":{"Type":"host-gw"}}`, v4 + "host-gw", "IPv6Network has no effect: EnableIPv6 is not true"},
		{"small IPv6 network", `{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/64","Backend":{"Type":"host-gw"}}`, "ipv6 fd00::/64 by /66, fd00::/66 to fd00::c000:0:0:0/66; host-gw", ""},
		{"udp", `{"Network":"10.244.0.0/16","Backend":{"Type":"udp"}}`, v4 + `udp; port=8285; {"Port":8285,"Type":"udp"}`, ""},
		{
			"wireguard", `{"Network":"10.244.0.0/16","Backend":{"Type":"wireguard","PersistentKeepaliveInterval":25,"Mode":"auto"}}`,
			v4 + `wireguard; port=51820; {"ListenPort":51820,"ListenPortV6":51821,"MTU":0,"Mode":"auto","PSK":"","PersistentKeepaliveInterval":25,"Type":"wireguard"}`, "",
		},
		{"ipip", `{"Network":"10.244.0.0/16","Backend":{"Type":"ipip","DirectRouting":true}}`, v4 + `ipip; direct=true; {"DirectRouting":true,"Type":"ipip"}`, ""},
		{"alloc", `{"Network":"10.244.0.0/16","Backend":{"Type":"alloc"}}`, v4 + "alloc", ""},
		{
			"extension", `{"Network":"10.244.0.0/16","Backend":{"Type":"extension","SubnetAddCommand":"a","ShutdownCommand":"b"}}`,
			v4 + `extension; {"PostStartupCommand":"","PreStartupCommand":"","ShutdownCommand":"b","SubnetAddCommand":"a","SubnetRemoveCommand":"","Type":"extension"}`,
			"",
		},
		{"tencent", `{"Network":"10.244.0.0/16","Backend":{"Type":"tencent-vpc","AccessKeyID":"i","AccessKeySecret":"s"}}`, v4 + `tencent-vpc; {"AccessKeyID":"i","AccessKeySecret":"s","Type":"tencent-vpc"}`, ""},
		{
			"ipsec", `{"Network":"10.244.0.0/16","Backend":{"Type":"ipsec","PSK":"` + strings.Repeat("k", 96) + `"}}`,
			v4 + `ipsec; {"ESPProposal":"aes128gcm16-sha256-prfsha256-ecp256","PSK":"` + strings.Repeat("k", 96) + `","Type":"ipsec","UDPEncap":false}`, "",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, notices, err := Parse("net-conf.json", []byte(c.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, show(cfg)); diff != "" {
				t.Errorf("configuration (-want +got):\n%s", diff)
			}
			for i := range notices {
				notices[i] = strings.TrimPrefix(notices[i], "net-conf.json: ")
			}
			if diff := cmp.Diff(c.notices, strings.Join(notices, "|")); diff != "" {
				t.Errorf("notices (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	const ok = `"Network":"10.244.0.0/16"`
	for _, c := range []struct{ name, in, key, says, hint string }{
		{"malformed", `{"Network":}`, "", "line 1, column 12", ""},
		{"truncated", `{"Network":"10.2`, "", "truncated", ""},
		{"a list", `[]`, "", "a list where an object {…} belongs", ""},
		{"null", `null`, "", "null where an object", ""},
		{"more after it", `{} {}`, "", "line 1, column 4", ""},
		{"no network", `{}`, "Network", "missing", "10.244.0.0/16"},
		{"network misspelt", `{"Comment":1,"Netwrok":"10.244.0.0/16"}`, "Network", `missing, and EnableIPv4 is on: is the unknown key "Netwrok" meant for it?`, "10.244.0.0/16"},
		{"IPv6Network misspelt", `{"EnableIPv6":true,"Network":"10.244.0.0/16","IPv6Netwrok":"fd00::/48"}`, "IPv6Network", `the unknown key "IPv6Netwrok"`, "fd00"},
		{"network of another type", `{"Network":10}`, "Network", "10 where a string belongs", "quotes"},
		{"no range", `{"Network":"10.244.0.0"}`, "Network", "no address range", "10.244.0.0/16"},
		{"other family", `{"Network":"fd00::/48"}`, "Network", "other address family", ""},
		{"mapped", `{"EnableIPv6":true,` + ok + `,"IPv6Network":"::ffff:10.0.0.0/104"}`, "IPv6Network", "not for pods", ""},
		{"too small", `{"Network":"10.244.0.0/29"}`, "Network", "too small", "/28"},
		{"multicast", `{"Network":"224.0.0.0/8"}`, "Network", "not for pods", ""},
		{"everything", `{"Network":"0.0.0.0/0"}`, "Network", "not for pods", ""},
		{"no IPv6 network", `{` + ok + `,"EnableIPv6":true}`, "IPv6Network", "missing", "fd00"},
		{"no family", `{` + ok + `,"EnableIPv4":false}`, "EnableIPv4", "switched off", "EnableIPv6"},
		{"flag as string", `{` + ok + `,"EnableIPv6":"true"}`, "EnableIPv6", "true or false", "without quotes"},
		{"length as string", `{` + ok + `,"SubnetLen":"24"}`, "SubnetLen", "whole number", "without quotes"},
		{"fractional length", `{` + ok + `,"SubnetLen":24.5}`, "SubnetLen", "whole number", ""},
		{"length too short", `{` + ok + `,"SubnetLen":17}`, "SubnetLen", "/17 is no length", "from 18 to 30"},
		{"length too long", `{` + ok + `,"SubnetLen":31}`, "SubnetLen", "/31 is no length", "from 18 to 30"},
		{"negative length", `{` + ok + `,"SubnetLen":-1}`, "SubnetLen", "no length", ""},
		{"length out of this world", `{` + ok + `,"SubnetLen":1e99}`, "SubnetLen", "whole number", ""},
		{"min outside", `{` + ok + `,"SubnetMin":"10.245.0.0"}`, "SubnetMin", "outside Network", ""},
		{"min between", `{` + ok + `,"SubnetMin":"10.244.1.7"}`, "SubnetMin", "not where a subnet", "write 10.244.1.0/24"},
		{"min of another length", `{` + ok + `,"SubnetMin":"10.244.10.0/25"}`, "SubnetMin", "another length", "write 10.244.10.0/24, or set SubnetLen to 25"},
		{"min no address", `{` + ok + `,"SubnetMin":"ten"}`, "SubnetMin", "neither an address nor a subnet", ""},
		{"min of other family", `{` + ok + `,"SubnetMin":"fd00::"}`, "SubnetMin", "other address family", ""},
		{"max before min", `{` + ok + `,"SubnetMin":"10.244.9.0","SubnetMax":"10.244.8.0"}`, "SubnetMax", "lies before SubnetMin", "10.244.9.0/24"},
		{"IPv6 min outside", `{` + ok + `,"EnableIPv6":true,"IPv6Network":"fd00::/48","IPv6SubnetMin":"fd01::"}`, "IPv6SubnetMin", "outside IPv6Network", ""},
		{"back end a string", `{` + ok + `,"Backend":"vxlan"}`, "Backend", `"vxlan" where an object`, ""},
		{"back end without type", `{` + ok + `,"Backend":{}}`, "Backend.Type", "missing", "vxlan, host-gw"},
		{"unknown back end", `{` + ok + `,"Backend":{"Type":"vxlna"}}`, "Backend.Type", `unknown back end "vxlna"`, "vxlan, host-gw, udp, wireguard, ipip, ipsec, alloc, extension, tencent-vpc"},
		{"type a number", `{` + ok + `,"Backend":{"Type":1}}`, "Backend.Type", "1 where a string belongs", ""},
		{"vni", `{` + ok + `,"Backend":{"Type":"vxlan","VNI":16777216}}`, "Backend.VNI", "out of range", "1 to 16777215"},
		{"port", `{` + ok + `,"Backend":{"Type":"vxlan","Port":70000}}`, "Backend.Port", "out of range", "65535"},
		{"port in quotes", `{` + ok + `,"Backend":{"Type":"vxlan","Port":"8472"}}`, "Backend.Port", `"8472" where a whole number belongs`, "without quotes"},
		{"mtu", `{` + ok + `,"Backend":{"Type":"vxlan","MTU":50}}`, "Backend.MTU", "no MTU", ""},
		{"mtu for IPv6", `{` + ok + `,"EnableIPv6":true,"IPv6Network":"fd00::/48","Backend":{"Type":"vxlan","MTU":1300}}`, "Backend.MTU", "1280", "1350"},
		{"direct routing", `{` + ok + `,"Backend":{"Type":"vxlan","DirectRouting":"yes"}}`, "Backend.DirectRouting", "true or false", ""},
		{"udp and IPv6", `{` + ok + `,"EnableIPv6":true,"IPv6Network":"fd00::/48","Backend":{"Type":"udp"}}`, "Backend.Type", "IPv4 only", ""},
		{"wireguard mode", `{` + ok + `,"Backend":{"Type":"wireguard","Mode":"both"}}`, "Backend.Mode", `"both"`, "separate"},
		{"wireguard secret", `{` + ok + `,"Backend":{"Type":"wireguard","PSK":"hunter2"}}`, "Backend.PSK", "not a pre-shared key", "wg genpsk"},
		{"ipsec secret", `{` + ok + `,"Backend":{"Type":"ipsec","PSK":"hunter2"}}`, "Backend.PSK", "7 characters", "openssl"},
		{"tencent key", `{` + ok + `,"Backend":{"Type":"tencent-vpc"}}`, "Backend.AccessKeyID", "missing", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := Parse("/etc/net-conf.json", []byte(c.in))
			if err == nil {
				t.Fatal("accepted")
			}
			if code := exit.Of(err); code != exit.BadConfig {
				t.Errorf("exit status %d", code)
			}
			var e *state.Error
			if !errors.As(err, &e) || e.Key != c.key || e.Path != "/etc/net-conf.json" {
				t.Errorf("error %q does not name the file and key %q", err, c.key)
			}
			hints := strings.Join(exit.Hints(err), "\n")
			if !strings.Contains(err.Error(), c.says) || !strings.Contains(hints, c.hint) {
				t.Errorf("error %q, hint %q: want %q, %q", err, hints, c.says, c.hint)
			}
			if strings.Contains(err.Error()+hints, "hunter2") {
				t.Error("the error repeats a secret")
			}
		})
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if cfg, _, err := Load(write("good", `{"Network":"10.244.0.0/16"}`)); err != nil || cfg.Backend.Type != "vxlan" {
		t.Errorf("good: %v, %v", cfg, err)
	}
	if _, _, err := Load(filepath.Join(dir, "none")); exit.Of(err) != exit.TryAgain || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v (exit %d)", err, exit.Of(err))
	}
	for _, path := range []string{write("empty", " \n"), write("huge", strings.Repeat(" ", state.MaxSize)+"{}"), dir} {
		if _, _, err := Load(path); exit.Of(err) != exit.BadConfig || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v (exit %d)", path, err, exit.Of(err))
		}
	}
}

func TestLast(t *testing.T) {
	for in, want := range map[string]string{
		"10.244.0.0/16": "10.244.255.255", "10.0.0.0/30": "10.0.0.3", "1.2.3.4/32": "1.2.3.4",
		"fd00::/48": "fd00::ffff:ffff:ffff:ffff:ffff", "fd00::/126": "fd00::3", "0.0.0.0/0": "255.255.255.255",
	} {
		if got := Last(netip.MustParsePrefix(in)); got.String() != want {
			t.Errorf("Last(%s) = %s, want %s", in, got, want)
		}
	}
}

// FuzzParse: whatever the bytes, no panic; what is accepted can be allocated from.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}`, `{"network":"10.0.0.0/8","SubnetLen":20,"SubnetMin":"10.10.0.0","SubnetMax":"10.99.0.0/20"}`,
		`{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/48","Backend":{"Type":"wireguard"}}`, `{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan","VNI":1e3}}`,
		`{`, `null`, `{"Backend":[]}`, `{"Network":"0.0.0.0/0"}`, `{"SubnetLen":24}`, "{\"\u212a\":1}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, _, err := Parse("fuzz", data)
		if err != nil {
			if exit.Of(err) != exit.BadConfig {
				t.Fatalf("exit status %d: %v", exit.Of(err), err)
			}
			return
		}
		if len(cfg.Enabled()) == 0 || backends[cfg.Backend.Type].keys == nil && cfg.Backend.Raw != nil {
			t.Fatalf("%s", show(cfg))
		}
		for _, fam := range cfg.Enabled() {
			network, lo, hi := cfg.Network.Of(fam), cfg.SubnetMin.Of(fam), cfg.SubnetMax.Of(fam)
			for _, s := range []netip.Prefix{lo, hi} {
				if s != s.Masked() || s.Bits() != cfg.SubnetLen.Of(fam) || !network.Contains(s.Addr()) || !network.Contains(Last(s)) {
					t.Fatalf("subnet %s of %s", s, show(cfg))
				}
			}
			if hi.Addr().Less(lo.Addr()) || state.FamilyOf(network.Addr()) != fam {
				t.Fatalf("%s", show(cfg))
			}
		}
	})
}
