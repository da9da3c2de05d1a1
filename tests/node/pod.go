package node

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/tests/probe"
)

func itoa(n int) string { return strconv.Itoa(n) }

func atoi(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

// Pod is a pod of the node.
type Pod struct {
	*nstest.Namespace
	Pod    string // NAMESPACE/NAME
	Labels string // "key=value key=value"
	Extra  string // lines of its spec, such as ports of containers
	Phase  string
	IPs    []netip.Addr // IPv4, IPv6
	MAC    net.HardwareAddr
	Wire   *probe.Wire   // its eth0
	Took   time.Duration // of the ADD
	n      *Node
}

// Pod writes a pod's object and attaches it, which needs Policies to be at work; without them see Attach.
func (n *Node) Pod(pod, labels string) *Pod {
	n.T.Helper()
	p := n.Prepare(pod, labels)
	if err := p.Add(); err != nil {
		n.T.Fatal(err)
	}
	return p
}

// Prepare makes a pod's namespace and writes its object, and attaches nothing yet.
func (n *Node) Prepare(pod, labels string) *Pod {
	n.T.Helper()
	p := &Pod{Namespace: nstest.New(n.T, "pod"), Pod: pod, Labels: labels, n: n}
	p.NoDAD()
	p.Write()
	return p
}

// Attach makes pods where no program is running: their ADD waits while the policies are applied once.
func (n *Node) Attach(pods ...*Pod) {
	n.T.Helper()
	for _, p := range pods {
		done := make(chan error, 1)
		go func() { done <- p.Add() }()
		endpoint := n.Run.Endpoint(p.Name, "eth0")
		n.Eventually(30*time.Second, func() string {
			if _, err := exec.Command("test", "-s", endpoint).Output(); err != nil {
				return "no endpoint of " + p.Pod
			}
			return ""
		})
		n.Apply()
		if err := <-done; err != nil {
			n.T.Fatal(err)
		}
	}
}

// Write writes the pod's object.
func (p *Pod) Write() {
	p.n.T.Helper()
	p.n.Set("pod-"+strings.ReplaceAll(p.Pod, "/", "-"), p.Manifest())
}

// Manifest is the pod's object. Like an API server's it says no address before kubelet has reported one.
func (p *Pod) Manifest() string {
	namespace, name, _ := strings.Cut(p.Pod, "/")
	phase := p.Phase
	if phase == "" {
		phase = "Running"
	}
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {namespace: %q, name: %q, uid: "uid-%s", labels: {%s}}
spec:
  nodeName: %s
%sstatus: {phase: %s}
`, namespace, name, p.Name, labels(strings.Fields(p.Labels)), Name, p.Extra, phase)
}

func (p *Pod) cni(command string) ([]byte, error) {
	namespace, name, _ := strings.Cut(p.Pod, "/")
	cmd := p.n.Command(Binary(p.n.T, "cni-bridge"))
	cmd.Env = []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "CNI_COMMAND=" + command, "CNI_CONTAINERID=" + p.Name, "CNI_IFNAME=eth0", "CNI_PATH=/opt/cni/bin",
		"CNI_NETNS=" + p.Path, fmt.Sprintf("CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=%s;K8S_POD_NAME=%s;K8S_POD_UID=uid-%s", namespace, name, p.Name),
	}
	cmd.Stdin = strings.NewReader(string(p.n.plugin))
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("cni-bridge %s of %s: %w: %s", command, p.Pod, err, out)
	}
	return out, err
}

// Add attaches the pod: it returns when its policies are in force.
func (p *Pod) Add() error {
	start := time.Now()
	out, err := p.cni("ADD")
	p.Took = time.Since(start)
	if err != nil {
		return err
	}
	var result struct {
		Interfaces []struct{ Name, Mac string }
		IPs        []struct{ Address netip.Prefix }
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	for _, i := range result.Interfaces {
		if i.Name == "eth0" {
			if p.MAC, err = net.ParseMAC(i.Mac); err != nil {
				return err
			}
		}
	}
	for _, a := range result.IPs {
		p.IPs = append(p.IPs, a.Address.Addr())
	}
	if len(p.IPs) != 2 || p.IPs[0].Is6() {
		return fmt.Errorf("addresses %v", p.IPs)
	}
	p.n.joined(p)
	if p.Wire == nil {
		p.Do(func() { p.Wire, err = probe.Open("eth0") })
		if err == nil {
			p.n.T.Cleanup(p.Wire.Close)
		}
	}
	return err
}

// joined notes a pod, also while others are being attached.
func (n *Node) joined(p *Pod) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pods = append(n.pods, p)
}

// Remove detaches the pod.
func (p *Pod) Remove() {
	p.n.T.Helper()
	if _, err := p.cni("DEL"); err != nil {
		p.n.T.Error(err)
	}
}

// Addr is its address of the family of another.
func (p *Pod) Addr(like netip.Addr) netip.Addr {
	if like.Is6() {
		return p.IPs[1]
	}
	return p.IPs[0]
}
