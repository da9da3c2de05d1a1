//go:build cluster

package cluster

import (
	"testing"
)

// A node whose power fails comes back with its disk only: its pods run again and are reached, as before, from everywhere.
func TestReboot(t *testing.T) {
	ns := namespace(t, "reboot")
	pods := start(t, ns, "", "a@worker01", "b@worker02")
	a, b := &pods[0], &pods[1]
	b.reaches(t, "http://"+a.ip+":8080/hostname", "a")

	boot := in(t, "worker01", "cat", "/proc/sys/kernel/random/boot_id")
	script(t, "reboot", name+"/worker01")
	if in(t, "worker01", "cat", "/proc/sys/kernel/random/boot_id") == boot {
		t.Error("worker01 has not booted anew")
	}
	old := a.ip
	poll(t, "pod a runs again", func() error {
		_, err := try("worker01", "bash", "-euo", "pipefail", "-c", sandboxPID+` | grep -q .`, "pid", ns, "a")
		return err
	})
	ready(t)
	a.wait(t)
	t.Logf("pod a had %s and has %s", old, a.ip)
	poll(t, "pod a's new address", func() error { a.wait(t); _, err := b.get("http://" + a.ip + ":8080/hostname"); return err })
	b.reaches(t, "http://"+a.ip+":8080/hostname", "a")
	a.reaches(t, "http://"+b.ip+":8080/hostname", "b")
	start(t, ns, "", "new@worker01")
	if out, err := a.exec("hostname"); err != nil {
		t.Errorf("exec after the reboot: %v %s", err, out)
	}
}
