//go:build netns

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

// Subnet files of a node.
const (
	envV4   = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
	envV6   = "FLANNEL_IPV6_NETWORK=fd00:10::/48\nFLANNEL_IPV6_SUBNET=fd00:10:0:1::1/64\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=true\n"
	envDual = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\n" + envV6
)

// binary builds the real program once, as it is released.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "cni-bridge")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "cni-bridge")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.New(string(out))
	}
	return path, nil
})

// host is a node: a namespace, a run directory, and directories for what lasts.
type host struct {
	*nstest.Namespace
	t     testing.TB
	bin   string
	run   state.Dir
	ipam  string // where host-local has its networks
	state string // of delegates
	path  string // CNI_PATH
}

func newHost(t testing.TB, env string) *host {
	t.Helper()
	ns := nstest.New(t, "node")
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	h := &host{
		Namespace: ns, t: t, bin: bin, run: state.Dir(filepath.Join(dir, "run")), ipam: filepath.Join(dir, "networks"),
		state: filepath.Join(dir, "delegates"), path: filepath.Join(dir, "bin"),
	}
	h.write(h.run.Lease(), "{}")
	h.write(h.run.SubnetEnv(), env)
	return h
}

func (h *host) write(path, text string) {
	h.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o755)); err != nil {
		h.t.Fatal(err)
	}
}

// conf is the configuration as `cni-bridge conf` writes it, with more keys laid over it.
func (h *host) conf(version string, more map[string]any) map[string]any {
	c := map[string]any{
		"cniVersion": version, "name": "cbr0", "type": "cni-bridge",
		"delegate": map[string]any{"hairpinMode": true, "isDefaultGateway": true},
		"runDir":   string(h.run), "subnetFile": h.run.SubnetEnv(), "dataDir": h.state,
		"ipam": map[string]any{"dataDir": h.ipam},
	}
	maps.Copy(c, more)
	return c
}

// pod is a container: an empty namespace.
type container struct {
	*nstest.Namespace
	id string
}

func newContainer(t testing.TB, id string) container {
	t.Helper()
	return container{nstest.New(t, "pod"), id}
}

// command prepares a call of the program as a container runtime makes it.
func (h *host) command(verb string, c container, conf any, env ...string) *exec.Cmd {
	h.t.Helper()
	stdin, ok := conf.(string)
	if !ok {
		data, err := json.Marshal(conf)
		if err != nil {
			h.t.Fatal(err)
		}
		stdin = string(data)
	}
	cmd := exec.Command(h.bin)
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + c.id, "CNI_IFNAME=eth0", "CNI_PATH=" + h.path,
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=dev;K8S_POD_NAME=" + c.id + ";K8S_POD_UID=u-" + c.id,
	}, env...)
	if c.Namespace != nil {
		cmd.Env = append(cmd.Env, "CNI_NETNS="+c.Path)
	}
	cmd.Stdin = strings.NewReader(stdin)
	return cmd
}

// call runs the program in the node and returns its output, or the error that it printed.
func (h *host) call(verb string, c container, conf any, env ...string) ([]byte, *types.Error) {
	h.t.Helper()
	cmd := h.command(verb, c, conf, env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	var err error
	h.Do(func() { err = cmd.Run() })
	var failed *exec.ExitError
	switch {
	case err == nil:
		return out.Bytes(), nil
	case !errors.As(err, &failed):
		h.t.Fatal(err)
	case failed.Sys().(syscall.WaitStatus).Signaled():
		return nil, &types.Error{Msg: failed.Error()}
	}
	var said types.Error
	if err := json.Unmarshal(out.Bytes(), &said); err != nil || said.Msg == "" {
		h.t.Fatalf("%s %s: %v: no error on standard output: %q %q", verb, c.id, failed, out.String(), errs.String())
	}
	return nil, &said
}

// add must work; it returns the result.
func (h *host) add(c container, conf map[string]any, env ...string) *current.Result {
	h.t.Helper()
	out, failed := h.call("ADD", c, conf, env...)
	if failed != nil {
		h.t.Fatalf("ADD %s: %d %v", c.id, failed.Code, failed)
	}
	raw, err := create.CreateFromBytes(out)
	if err != nil {
		h.t.Fatalf("ADD %s: %v\n%s", c.id, err, out)
	}
	if want := conf["cniVersion"]; raw.Version() != want {
		h.t.Errorf("result of version %s, not %s:\n%s", raw.Version(), want, out)
	}
	result, err := current.NewResultFromResult(raw)
	if err != nil {
		h.t.Fatal(err)
	}
	return result
}

// must runs a verb that prints nothing and has to work.
func (h *host) must(verb string, c container, conf any, env ...string) {
	h.t.Helper()
	if out, failed := h.call(verb, c, conf, env...); failed != nil || len(out) > 0 {
		h.t.Fatalf("%s %s: %v %s", verb, c.id, failed, out)
	}
}

// fails runs a verb that has to fail with a code and with words.
func (h *host) fails(code uint, words, verb string, c container, conf any, env ...string) {
	h.t.Helper()
	out, failed := h.call(verb, c, conf, env...)
	if failed == nil {
		h.t.Errorf("%s %s: worked: %s", verb, c.id, out)
		return
	}
	if text := failed.Msg + "\n" + failed.Details; failed.Code != code || !strings.Contains(text, words) {
		h.t.Errorf("%s %s: code %d: %s\nwant code %d: …%s…", verb, c.id, failed.Code, text, code, words)
	}
}

// reserved are the addresses in use, with their holders.
func (h *host) reserved() map[string]string {
	all := map[string]string{}
	names, _ := readNames(filepath.Join(h.ipam, "cbr0"))
	for _, name := range names {
		if _, err := netip.ParseAddr(name); err == nil {
			data, _ := os.ReadFile(filepath.Join(h.ipam, "cbr0", name))
			all[name] = string(data)
		}
	}
	return all
}

// leftovers are what a node without pods must not have.
func (h *host) leftovers() []string {
	var left []string
	for ip := range h.reserved() {
		left = append(left, "reservation "+ip)
	}
	for _, dir := range []string{h.run.Endpoints(), h.state} {
		names, _ := readNames(dir)
		for _, n := range names {
			left = append(left, filepath.Join(dir, n))
		}
	}
	names, _ := readNames(filepath.Join(h.ipam, ".towpath", "cbr0"))
	for _, n := range names {
		if n != ".stamp" {
			left = append(left, "index "+n)
		}
	}
	for line := range strings.Lines(h.Run("ip", "-br", "link", "show", "type", "veth")) {
		left = append(left, "device "+strings.TrimSpace(line))
	}
	return left
}

func addrOf(r *current.Result, i int) string {
	p, _ := prefixOfNet(r.IPs[i].Address)
	return p.Addr().String()
}

func vethOf(id string) string { return vethName(holder{id, "eth0"}) }
