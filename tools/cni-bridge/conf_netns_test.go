//go:build netns

package main

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	leaseJSON = `{"version": 1, "backend": {"type": "vxlan"}, "interface": {"name": "eth0", "mtu": 1500, "ip": {}}, "ipMasq": true,
		"network": {"ipv4": "10.244.0.0/16"}, "node": "a", "publicIP": {}, "subnet": {"ipv4": "10.244.1.0/24"}}`
	linkJSON   = `{"version": 1, "device": {"ipv4": {"name": "flannel.1", "mtu": 1450}}, "mtu": 1450, "publish": {"type": "vxlan"}, "uplink": "eth0"}`
	routesJSON = `{"version": 1, "peers": 0, "repaired": 0}`
)

func (h *host) confCommand(ctx context.Context, verb string) *exec.Cmd {
	dir := filepath.Dir(string(h.run))
	return exec.CommandContext(ctx, h.bin, "conf", verb, "--run-dir", string(h.run), "--cni-conf", filepath.Join(dir, "cni-conf.json"),
		"--conflist", filepath.Join(dir, "net.d", "10-towpath.conflist"))
}

func (h *host) confRun(verb string) string {
	h.t.Helper()
	cmd := h.confCommand(context.Background(), verb)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	var err error
	h.Do(func() { err = cmd.Run() })
	if err != nil {
		h.t.Fatalf("conf %s: %v\n%s", verb, err, errs.String())
	}
	return out.String()
}

// TestDownRemovesTheBridge: the one that ADD made goes with the last pod; one with pods, or of another's
// making, stays.
func TestDownRemovesTheBridge(t *testing.T) {
	h := newHost(t, "")
	h.write(h.run.Lease(), leaseJSON)
	h.write(h.run.Link(), linkJSON)
	h.write(h.run.Routes(), routesJSON)
	before := h.Run("ip", "-d", "addr")
	h.confRun("apply")
	pod := newContainer(t, "a")
	h.add(pod, h.conf("1.0.0", nil))
	if out := h.confRun("down"); strings.Contains(out, "cni0") {
		t.Errorf("a bridge with a pod was removed: %s", out)
	}
	h.must("DEL", pod, h.conf("1.0.0", nil))
	if out := h.confRun("down"); out != "ip link del cni0\n" {
		t.Errorf("down: %q", out)
	}
	if after := h.Run("ip", "-d", "addr"); after != before {
		t.Errorf("the namespace is not as it began:\n%s\n%s", before, after)
	}
	h.Run("ip", "link", "add", "cni0", "type", "bridge")
	if out := h.confRun("down"); out != "" {
		t.Errorf("a bridge of another's making: %q", out)
	}
}

// TestWatch: the conflist appears when the last input does, and follows a change.
func TestWatch(t *testing.T) {
	h := newHost(t, "")
	put := func(path, text string) { // at once, as what is half a file when watch begins ends it
		h.write(path+".new", text)
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(h.run.Lease()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	cmd := h.confCommand(ctx, "watch")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	h.Do(func() { err = cmd.Start() })
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			log.WriteString(lines.Text() + "\n")
		}
	}()
	list := filepath.Join(filepath.Dir(string(h.run)), "net.d", "10-towpath.conflist")
	for _, f := range [][2]string{{h.run.Lease(), leaseJSON}, {h.run.Link(), linkJSON}} {
		put(f[0], f[1])
		if exists(list) {
			t.Error("the conflist is there before all inputs are")
		}
	}
	put(h.run.Routes(), routesJSON)
	await(t, func() bool { return exists(list) })
	h.write(h.run.Link(), strings.ReplaceAll(linkJSON, "1450", "1400"))
	await(t, func() bool {
		data, _ := os.ReadFile(h.run.SubnetEnv())
		return strings.Contains(string(data), "FLANNEL_MTU=1400")
	})
	stop()
	<-done
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 0 {
		t.Errorf("%v\n%s", err, log.String())
	}
	if !exists(list) {
		t.Error("the end of watch removed the conflist")
	}
}

func await(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(30 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("not within 30 s")
		}
	}
}
