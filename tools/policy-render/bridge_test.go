package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/state"
)

func TestBridgeFault(t *testing.T) {
	both := []state.Family{state.IPv4, state.IPv6}
	const module, own = "proc/sys/net/bridge/bridge-nf-call-ip", "sys/class/net/cni0/bridge/nf_call_ip"
	for name, c := range map[string]struct {
		files    map[string]string
		families []state.Family
		fault    string
	}{
		"no bridge yet":       {map[string]string{module + "tables": "1\n", module + "6tables": "1\n"}, both, ""},
		"nor the module":      {nil, both, "bridge-nf-call-iptables is off"},
		"on for all":          {map[string]string{module + "tables": "1\n", module + "6tables": "1\n", own + "tables": "0\n", own + "6tables": "0\n"}, both, ""},
		"on for this one":     {map[string]string{module + "tables": "0\n", module + "6tables": "0\n", own + "tables": "1\n", own + "6tables": "1\n"}, both, ""},
		"off":                 {map[string]string{module + "tables": "0\n", module + "6tables": "1\n", own + "tables": "0\n"}, both, "bridge-nf-call-iptables is off"},
		"off for IPv6":        {map[string]string{module + "tables": "1\n", module + "6tables": "0\n", own + "6tables": "0\n"}, both, "bridge-nf-call-ip6tables is off"},
		"IPv6 is not in use":  {map[string]string{module + "tables": "1\n", module + "6tables": "0\n", own + "6tables": "0\n"}, both[:1], ""},
		"module not loaded":   {map[string]string{own + "tables": "1\n", own + "6tables": "1\n"}, both, "bridge-nf-call-iptables is off"},
		"a switch is missing": {map[string]string{module + "tables": "1\n", own + "tables": "1\n"}, both, "bridge-nf-call-ip6tables is off"},
	} {
		root := t.TempDir()
		for path, text := range c.files {
			path = filepath.Join(root, path)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		err := bridgeFault(root, "cni0", c.families)
		if (err != nil) != (c.fault != "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%s: %v, want %q", name, err, c.fault)
		}
	}
}
