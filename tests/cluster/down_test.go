//go:build cluster

package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// However far `up` came before it was killed, `down` leaves no process, no cgroup and no file.
func TestDown(t *testing.T) {
	for _, until := range []string{"pki/ca.key", "run/api.pid", "run/master.pid", "disk/master/joined"} {
		t.Run(filepath.Base(until), func(t *testing.T) {
			half := fmt.Sprintf("half-%d", os.Getpid())
			dir := filepath.Join(stateDir(), half)
			command := func(script string) *exec.Cmd {
				cmd := exec.Command("./" + script)
				cmd.Env = append(os.Environ(), "CLUSTER="+half, "MODE=none", "NODES=1")
				return cmd
			}
			said, err := os.Create(filepath.Join(t.TempDir(), "said"))
			if err != nil {
				t.Fatal(err)
			}
			defer said.Close()
			up := command("up")
			up.Stdout, up.Stderr = said, said
			if err := up.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { command("down").Run() })
			poll(t, "up to come to "+until, func() error {
				if _, err := os.Stat(filepath.Join(dir, until)); err != nil {
					text, _ := os.ReadFile(said.Name())
					return fmt.Errorf("%w: %s", err, text)
				}
				return nil
			})
			up.Process.Kill()
			up.Wait()
			begun := time.Now()
			if out, err := command("down").CombinedOutput(); err != nil {
				t.Fatalf("down: %v\n%s", err, out)
			}
			t.Logf("down took %.1f s", time.Since(begun).Seconds())
			if _, err := os.Stat(dir); err == nil {
				t.Errorf("%s is still there", dir)
			}
			left, err := filepath.Glob("/proc/[0-9]*/cgroup")
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range left {
				if b, err := os.ReadFile(file); err == nil && strings.Contains(string(b), "/towpath-"+half) {
					t.Errorf("process %s is still there", file)
				}
			}
			filepath.WalkDir("/sys/fs/cgroup", func(path string, d os.DirEntry, err error) error {
				if err == nil && d.Name() == "towpath-"+half {
					t.Errorf("%s is still there", path)
				}
				return nil
			})
			if out, err := exec.Command("ip", "-o", "link").Output(); err != nil || strings.Contains(string(out), "n-master") {
				t.Errorf("devices in the machine's namespace: %s %v", out, err)
			}
			mounts, err := os.ReadFile("/proc/self/mountinfo")
			if err != nil || strings.Contains(string(mounts), dir) {
				t.Errorf("mounts of the machine's namespace: %s %v", mounts, err)
			}
		})
	}
}
