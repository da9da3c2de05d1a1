//go:build cluster

package cluster

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
)

// Every back end in turn, on the running cluster: the ConfigMap is edited, as an administrator does, and no pod is restarted.
func TestBackends(t *testing.T) {
	ns := namespace(t, "backends")
	pods := start(t, ns, "", "a@worker01", "b@worker01", "c@worker02", "m@master")
	t.Cleanup(func() { chooseBackend(t, `{"Type": "vxlan"}`) })
	for _, c := range []struct{ backend, device string }{
		{`{"Type": "host-gw"}`, "eth0"},
		{`{"Type": "udp"}`, "flannel0"},
		{`{"Type": "wireguard"}`, "flannel-wg"},
		{`{"Type": "vxlan", "DirectRouting": true}`, "flannel.1"},
		{`{"Type": "vxlan"}`, "flannel.1"},
	} {
		t.Run(c.backend, func(t *testing.T) {
			chooseBackend(t, c.backend)
			for _, node := range nodes(t) {
				poll(t, node+" uses "+c.device, func() error {
					var link struct {
						Device struct {
							IPv4 struct{ Name string } `json:"ipv4"`
						} `json:"device"`
					}
					out, err := try(node, "cat", "/run/towpath/link.json")
					if err == nil {
						err = json.Unmarshal([]byte(out), &link)
					}
					if err == nil && link.Device.IPv4.Name != c.device {
						err = fmt.Errorf("the device is %q", link.Device.IPv4.Name)
					}
					return err
				})
			}
			ready(t)
			for from := range pods {
				for to := range pods {
					pods[from].reaches(t, "http://"+pods[to].ip+":8080/hostname", pods[to].name)
					if from != to {
						pods[from].reaches(t, "http://"+pods[to].ip+":8080/clientip", pods[from].ip+":")
					}
				}
			}
			start(t, ns, "", fmt.Sprintf("new-%s@worker02", strings.ReplaceAll(c.device, ".", "-")))
		})
	}
}

// chooseBackend edits Backend in net-conf.json and waits until every node has been brought it.
func chooseBackend(t *testing.T, backend string) {
	t.Helper()
	conf := fmt.Sprintf(`{"Network": "10.244.0.0/16", "Backend": %s}`, backend)
	if daemonset() {
		patch, err := json.Marshal(map[string]any{"data": map[string]string{"net-conf.json": conf}})
		if err != nil {
			t.Fatal(err)
		}
		kubectl(t, "-n", "towpath", "patch", "configmap", "kube-flannel-cfg", "--type", "merge", "-p", string(patch))
		// The kubelet brings it within a minute, or when the pod changes.
		kubectl(t, "-n", "towpath", "annotate", "pods", "--all", "--overwrite", fmt.Sprintf("tests/backend=%08x", crc32.ChecksumIEEE([]byte(backend))))
	}
	for _, node := range nodes(t) {
		if !daemonset() {
			in(t, node, "bash", "-c", `printf %s "$1" >/etc/towpath/net-conf.json.new && mv /etc/towpath/net-conf.json.new /etc/towpath/net-conf.json`, "bash", conf)
		}
		var want struct{ Type string }
		if err := json.Unmarshal([]byte(backend), &want); err != nil {
			t.Fatal(err)
		}
		poll(t, node+" has "+backend, func() error {
			_, err := try(node, "jq", "-e", fmt.Sprintf(".backend.type == %q and (.backend.directRouting // false) == %v", want.Type, strings.Contains(backend, "DirectRouting")), "/run/towpath/lease.json")
			return err
		})
	}
}
