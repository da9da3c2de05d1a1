//go:build netns

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fake is a plugin that writes down how it was called, and fails while a file says so.
const fake = `#!/bin/sh
cd "${0%/*}"
if [ -e fail ]; then
	echo '{"code": 107, "msg": "the fake says no", "details": "as told"}'
	exit 1
fi
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_NETNS" >>calls
cat >"stdin.$CNI_COMMAND"
if [ "$CNI_COMMAND" = ADD ]; then
	echo '{"interfaces": [{"name": "eth0", "sandbox": "x"}], "ips": [{"address": "10.244.1.9/24", "interface": 0}]}'
fi
`

func TestDelegate(t *testing.T) {
	h := newHost(t, envDual)
	h.write(filepath.Join(h.path, "macvlan"), fake)
	conf := h.conf("1.1.0", map[string]any{
		"delegate":      map[string]any{"type": "macvlan", "master": "eth0"},
		"ipam":          map[string]any{"dataDir": h.ipam, "routes": []any{map[string]any{"dst": "10.96.0.0/12"}}},
		"runtimeConfig": map[string]any{"mac": "02:00:00:00:00:01"},
	})
	a := newContainer(t, "a")
	r := h.add(a, conf)
	if addrOf(r, 0) != "10.244.1.9" {
		t.Errorf("the delegate's result is not ours: %+v", r)
	}
	given, _ := os.ReadFile(filepath.Join(h.path, "stdin.ADD"))
	const want = `{"cniVersion":"1.1.0","ipMasq":false,"ipam":{"dataDir":"IPAM","ranges":[[{"subnet":"10.244.1.0/24"}],[{"subnet":"fd00:10:0:1::/64"}]],` +
		`"routes":[{"dst":"10.96.0.0/12"},{"dst":"10.244.0.0/16"},{"dst":"fd00:10::/48"}],"type":"host-local"},"master":"eth0","mtu":1430,` +
		`"name":"cbr0","runtimeConfig":{"mac":"02:00:00:00:00:01"},"type":"macvlan"}`
	if diff := cmp.Diff(want, strings.ReplaceAll(string(given), h.ipam, "IPAM")); diff != "" {
		t.Errorf("configuration of the delegate (-want +got):\n%s", diff)
	}
	record := filepath.Join(h.state, "a:eth0")
	if saved, _ := os.ReadFile(record); string(saved) != string(given) {
		t.Errorf("record of the delegate: %q", saved)
	}
	if e, err := os.ReadFile(h.run.Endpoint("a", "eth0")); err != nil || !strings.Contains(string(e), "10.244.1.9") {
		t.Errorf("endpoint: %v %s", err, e)
	}
	conf["prevResult"] = asVersion(t, r, "1.1.0")
	h.must("CHECK", a, conf)

	// A DEL that fails keeps what the next one needs.
	h.write(filepath.Join(h.path, "fail"), "")
	h.fails(107, `delegate "macvlan": the fake says no`, "DEL", a, conf)
	if !exists(record) || !exists(h.run.Endpoint("a", "eth0")) {
		t.Error("a failed DEL forgot the attachment")
	}
	h.fails(107, "as told", "STATUS", container{}, conf)
	os.Remove(filepath.Join(h.path, "fail"))
	h.must("STATUS", container{}, conf)
	os.Remove(h.run.SubnetEnv()) // not needed any more
	h.must("DEL", a, conf)
	h.must("DEL", a, conf)
	if left := h.leftovers(); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	var sent map[string]any
	given, _ = os.ReadFile(filepath.Join(h.path, "stdin.DEL"))
	if err := json.Unmarshal(given, &sent); err != nil || sent["prevResult"] == nil {
		t.Errorf("DEL without the previous result: %v %s", err, given)
	}
	calls, _ := os.ReadFile(filepath.Join(h.path, "calls"))
	if diff := cmp.Diff("ADD a eth0 "+a.Path+"\nCHECK a eth0 "+a.Path+"\nSTATUS   \nDEL a eth0 "+a.Path+"\n", string(calls)); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// TestDelegateGC: attachments of the network that are not valid are deleted, each interface for itself.
func TestDelegateGC(t *testing.T) {
	h := newHost(t, envV4)
	h.write(filepath.Join(h.path, "ptp"), fake)
	conf := h.conf("1.1.0", map[string]any{"delegate": map[string]any{"type": "ptp"}})
	keep, lost := newContainer(t, "keep"), newContainer(t, "lost")
	h.add(keep, conf)
	h.add(keep, conf, "CNI_IFNAME=net1")
	h.add(lost, conf)
	h.write(filepath.Join(h.state, "far:eth0"), `{"name":"another","type":"ptp"}`)
	conf[validAttachments] = []map[string]string{{"containerID": "keep", "ifname": "eth0"}}
	h.must("GC", container{}, conf)
	names, _ := readNames(h.state)
	if len(names) != 2 || !exists(filepath.Join(h.state, "keep:eth0")) || !exists(filepath.Join(h.state, "far:eth0")) {
		t.Errorf("records: %v", names)
	}
	calls, _ := os.ReadFile(filepath.Join(h.path, "calls"))
	for _, want := range []string{"DEL keep net1 \n", "DEL lost eth0 \n", "GC "} {
		if !strings.Contains(string(calls), want) {
			t.Errorf("no call %q:\n%s", want, calls)
		}
	}
	// A plugin that is not there is named.
	h.fails(50, `delegate "ipvlan" is not in`, "ADD", lost, h.conf("1.1.0", map[string]any{"delegate": map[string]any{"type": "ipvlan"}}))
}

// TestMalformed gives the plugin broken configurations and subnet files: a code, words that name the
// key or the line, and a kernel left alone.
func TestMalformed(t *testing.T) {
	h := newHost(t, envV4)
	a := newContainer(t, "a")
	with := func(more map[string]any) map[string]any { return h.conf("1.0.0", more) }
	delegate := func(key string, value any) map[string]any {
		return with(map[string]any{"delegate": map[string]any{key: value}})
	}
	ranges := func(r map[string]any) map[string]any {
		return with(map[string]any{"ipam": map[string]any{"dataDir": h.ipam, "ranges": []any{[]any{r}}}})
	}
	before := h.Run("ip", "-d", "link")
	for _, c := range []struct {
		code  uint
		words string
		conf  any
	}{
		{6, "unexpected end", ""},
		{6, "unexpected end", `{"cniVersion": "1.0.0", "name"`},
		{6, "invalid character", "\x7fELF"},
		{6, "array", "[]"},
		{7, "network name", `{"cniVersion": "1.0.0"}`},
		{7, "invalid characters", `{"cniVersion": "1.0.0", "name": "a b"}`},
		{1, "incompatible CNI versions", with(map[string]any{"cniVersion": "0.2.0"})},
		{1, "incompatible CNI versions", with(map[string]any{"cniVersion": "9.9.9"})},
		{6, `key "subnetFile"`, with(map[string]any{"subnetFile": 7})},
		{7, `key "subnetFile": "subnet.env" is no absolute path`, with(map[string]any{"subnetFile": "subnet.env"})},
		{6, `key "delegate"`, with(map[string]any{"delegate": "bridge"})},
		{7, `key "delegate.mtu"`, delegate("mtu", "big")},
		{7, `key "delegate.mtu": 67 is no MTU`, delegate("mtu", 67)},
		{7, `key "delegate.type"`, delegate("type", 5)},
		{7, `key "delegate.name": is set by cni-bridge`, delegate("name", "x")},
		{7, `key "delegate.ipam": is set by cni-bridge`, delegate("ipam", map[string]any{})},
		{7, `key "delegate.bridge"`, delegate("bridge", "../etc")},
		{7, `key "delegate.vlan"`, delegate("vlan", 5)},
		{7, `key "delegate.macspoofchk"`, delegate("macspoofchk", true)},
		{7, `key "delegate.type": "../sh" is no name of a plugin`, delegate("type", "../sh")},
		{7, `key "delegate.promiscMode"`, with(map[string]any{"delegate": map[string]any{"hairpinMode": true, "promiscMode": true}})},
		{7, `key "ipam.type": "dhcp"`, with(map[string]any{"ipam": map[string]any{"type": "dhcp"}})},
		{7, `key "ipam.ranges[0][0]": 10.9.0.0/24 is outside this node's subnet 10.244.1.0/24`, ranges(map[string]any{"subnet": "10.9.0.0/24"})},
		{7, "10.244.1.255 is not an address for pods", ranges(map[string]any{"rangeEnd": "10.244.1.255"})},
		{7, "rangeEnd 10.244.1.5 comes before", ranges(map[string]any{"rangeStart": "10.244.1.9", "rangeEnd": "10.244.1.5"})},
		{7, `key "ipam.ranges`, ranges(map[string]any{"rangeEnd": "no address"})},
		{7, `key "runtimeConfig.mac"`, with(map[string]any{"runtimeConfig": map[string]any{"mac": "01:00:5e:00:00:01"}})},
	} {
		h.fails(c.code, c.words, "ADD", a, c.conf)
	}
	h.fails(4, `"NOVALUE" is not KEY=VALUE`, "ADD", a, with(nil), "CNI_ARGS=IgnoreUnknown=1;NOVALUE")
	h.fails(4, "CNI_CONTAINERID", "ADD", container{a.Namespace, ""}, with(nil))
	for words, text := range map[string]string{
		`line 1: "FLANNEL_MTU" is not KEY=VALUE`:     "FLANNEL_MTU",
		`key "FLANNEL_MTU": line 3`:                  strings.Replace(envV4, "1450", "fast", 1),
		`key "FLANNEL_SUBNET": missing`:              "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n",
		`key "FLANNEL_SUBNET": line 2: "10.244.1.1"`: strings.Replace(envV4, "10.244.1.1/24", "10.244.1.1", 1),
		`10.244.1.1/31 has no room`:                  strings.Replace(envV4, "10.244.1.1/24", "10.244.1.1/31", 1),
		`"fd00::1/64" is not of ipv4`:                strings.Replace(envV4, "10.244.1.1/24", "fd00::1/64", 1),
		`empty file`:                                 "",
		`larger than`:                                strings.Repeat("#\n", maxSubnetEnv),
	} {
		h.write(h.run.SubnetEnv(), text)
		h.fails(6, words, "ADD", a, with(nil))
		h.fails(6, h.run.SubnetEnv(), "ADD", a, with(nil))
	}
	h.write(h.run.SubnetEnv(), strings.Replace(envV4, "true", "false", 1))
	h.fails(7, `key "delegate.ipMasq"`, "ADD", a, delegate("ipMasq", true))
	if diff := cmp.Diff(before, h.Run("ip", "-d", "link")); diff != "" {
		t.Errorf("the kernel was changed (-before +after):\n%s", diff)
	}
	if left := h.leftovers(); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	if out, failed := h.call("VERSION", container{}, ""); failed != nil || !strings.Contains(string(out), `["0.3.1","0.4.0","1.0.0","1.1.0"]`) {
		t.Errorf("VERSION: %v %s", failed, out)
	}
}
