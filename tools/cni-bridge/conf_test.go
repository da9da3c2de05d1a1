package main

import (
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/state"
)

// TestLastWords: why conf ended reaches towpath status.
func TestLastWords(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	if code := command(t.Context(), []string{"conf", "apply", "--policy", "maybe"}, io.Discard, io.Discard); code != 64 {
		t.Errorf("ended with %d", code)
	}
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if got := string(buf[:n]); err != nil || !strings.HasPrefix(got, `STATUS=failing: --policy "maybe": `) {
		t.Errorf("%q, %v", got, err)
	}
}

// FuzzCached: whatever stands in libcni's cache, no endpoint comes of it that lacks what policy needs.
func FuzzCached(f *testing.F) {
	f.Add([]byte(`{"kind":"cniCacheV1","containerId":"c","ifName":"eth0","networkName":"cbr0","cniArgs":[["K8S_POD_NAMESPACE","a"],["K8S_POD_NAME","b"]],` +
		`"result":{"cniVersion":"0.3.1","interfaces":[{"name":"veth1"},{"name":"eth0","mac":"02:00:00:00:00:01","sandbox":"/run/netns/x"}],` +
		`"ips":[{"version":"4","interface":1,"address":"10.244.1.2/24"}]}}`))
	f.Add([]byte(`{"kind":"cniCacheV1","containerId":"c","ifName":"eth0","result":{"cniVersion":"1.0.0","interfaces":[null],"ips":[null]}}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, r, err := parseCached(data)
		if err != nil {
			return
		}
		if e, why := endpointOf(c, r, "cni0"); why == "" && (e.Pod == "" || e.HostVeth == "" || e.MAC == "" || !e.IP.Has(state.IPv4) && !e.IP.Has(state.IPv6)) {
			t.Errorf("%+v", e)
		}
	})
}

func FuzzEarlier(f *testing.F) {
	f.Add([]byte(`{"name":"cbr0","plugins":[{"type":"flannel"}]}`))
	f.Add([]byte(`{"name":"x","type":"multus"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, ok := parseEarlier(data); ok && !slices.Contains(c.plugins, "flannel") && !slices.Contains(c.plugins, "calico") {
			t.Errorf("%+v", c)
		}
	})
}
