//go:build cluster && peer

package cluster

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// mover is packaging/kubernetes/move, seen from this package.
const mover = "../../packaging/kubernetes/move"

// move runs the script as the administrator and returns what it printed.
func move(t *testing.T, args ...string) string {
	t.Helper()
	return in(t, "api", append([]string{mover}, args...)...)
}

// TestMove moves a cluster from the real flannel to towpath, node by node, one node back and forth again, under traffic, and removes
// kube-flannel at the end. It needs a cluster without a network (MODE=none) and the peer: PEER_FLANNEL_DIR names a directory with flanneld,
// flannel's CNI plugin flannel and flannel's kube-flannel.yml, which are no part of this repository.
func TestMove(t *testing.T) {
	peer := os.Getenv("PEER_FLANNEL_DIR")
	if peer == "" || os.Getenv("MODE") != "none" {
		t.Fatal("it needs MODE=none and PEER_FLANNEL_DIR=DIR with flanneld, flannel (the CNI plugin) and kube-flannel.yml")
	}
	flannel(t, peer)
	ns := namespace(t, "moving")
	pods := start(t, ns, "", "a@worker01", "b@worker01", "c@worker02", "m@master", "gone@worker01", "shut@worker01")
	a, c, m := &pods[0], &pods[2], &pods[3]
	apply(t, `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: shut, namespace: moving}
spec: {podSelector: {matchLabels: {pod: shut}}, policyTypes: [Ingress]}
`)
	c.reaches(t, "http://"+pods[5].ip+":8080/hostname", "shut") // flannel has no policies
	before := identities(t, ns)
	annotations := kubectl(t, "get", "nodes", "-o", `jsonpath={range .items[*]}{.metadata.annotations.flannel\.alpha\.coreos\.com/backend-data}{end}`)
	streams := []*stream{dial(t, a, c), dial(t, c, a), dial(t, m, a)}
	phase := func(what string, do func()) {
		t.Helper()
		since := time.Now()
		var flows []*flow
		for _, pair := range [][2]*pod{{a, &pods[1]}, {a, c}, {c, a}, {m, a}, {a, m}, {m, c}, {c, m}} {
			flows = append(flows, ping(t, pair[0], pair[0].node, pair[1].ip))
		}
		flows = append(flows, ping(t, a, a.node, "192.168.100.1"), ping(t, nil, "worker01", a.ip)) // to outside, and from the node
		do()
		t.Logf("%s: %.0f s", what, time.Since(since).Seconds())
		lostNone(t, what, since, flows...)
		for _, s := range streams {
			s.alive(t)
		}
		if now := identities(t, ns); now != before {
			t.Errorf("%s: pods were\n%sand are\n%s", what, before, now)
		}
	}

	t.Logf("what would be done:\n%s", move(t, "--dry-run", "to-towpath", "--node", "worker01"))
	phase("worker01 moves in", func() { move(t, "to-towpath", "--node", "worker01") })
	if now := kubectl(t, "get", "nodes", "-o", `jsonpath={range .items[*]}{.metadata.annotations.flannel\.alpha\.coreos\.com/backend-data}{end}`); now != annotations {
		t.Errorf("annotations were %s and are %s", annotations, now)
	}
	if out := in(t, "worker01", "bash", "-c", "iptables-nft-save; ip6tables-nft-save; ls /etc/cni/net.d"); strings.Contains(out, "FLANNEL") || strings.Contains(out, "10-flannel.conflist\n") {
		t.Errorf("worker01 has of flannel's:\n%s", out)
	}
	phase("half flannel, half towpath", func() {
		mixed := start(t, ns, "", "new1@worker01", "new2@worker02")
		mixed[0].reaches(t, "http://"+mixed[1].ip+":8080/hostname", "new2")
		mixed[1].reaches(t, "http://"+mixed[0].ip+":8080/hostname", "new1")
		c.reaches(t, "http://"+mixed[0].ip+":8080/hostname", "new1")
		if out, err := c.get("http://" + pods[5].ip + ":8080/hostname"); err == nil {
			t.Errorf("a pod of flannel's is not policed after the move: %s", out)
		}
		// A pod that flannel's plugin attached goes, and its address and records with it.
		kubectl(t, "-n", ns, "delete", "pod", "gone", "--timeout", "2m")
		unreserved(t, "worker01", pods[4].ip)
		left := in(t, "worker01", "bash", "-c", "ls /var/lib/cni/networks/cbr0 /var/lib/cni/flannel /run/towpath/endpoints")
		if strings.Contains(left, pods[4].ip+"\n") || strings.Count(left, "-eth0.json") != strings.Count(in(t, "worker01", "ls", "/run/netns"), "cni-") {
			t.Errorf("what is noted on worker01 (%s is gone):\n%s", pods[4].ip, left)
		}
	})
	made := kubectl(t, "-n", ns, "get", "pod", "new1", "-o", "jsonpath={.status.podIP}")
	phase("worker01 moves back", func() { move(t, "back", "--node", "worker01") })
	if out := in(t, "worker01", "bash", "-c", "nft list tables; ip route; ls -A /run/towpath /etc/cni/net.d; ip -d link show flannel.1"); strings.Contains(out, "towpath ") ||
		strings.Contains(out, "towpath\n") || strings.Contains(out, "proto 116") || strings.Contains(out, "10-towpath") {
		t.Errorf("worker01 has of towpath's:\n%s", out)
	}
	phase("flannel again", func() {
		after := start(t, ns, "", "new3@worker01")
		after[0].reaches(t, "http://"+c.ip+":8080/hostname", "c")
		kubectl(t, "-n", ns, "delete", "pod", "new3", "--timeout", "2m")
	})
	kubectl(t, "-n", ns, "delete", "pod", "new1", "--timeout", "2m") // that towpath's plugin attached, and flannel's takes away
	unreserved(t, "worker01", made)
	phase("every node moves in", func() { move(t, "to-towpath") })
	phase("finish", func() { move(t, "finish") })
	for _, gone := range []string{"-n kube-flannel ds/kube-flannel-ds", "-n kube-flannel sa/flannel", "clusterrole/flannel", "clusterrolebinding/flannel"} {
		if out, err := try("api", append([]string{"kubectl", "get"}, strings.Fields(gone)...)...); err == nil {
			t.Errorf("still there: %s", out)
		}
	}
	kubectl(t, "-n", "kube-flannel", "get", "configmap", "kube-flannel-cfg")
	for _, node := range nodes(t) {
		if out := in(t, node, "bash", "-c", "iptables-nft-save; ls /etc/cni/net.d"); strings.Contains(out, "FLANNEL") || strings.Contains(out, "flannel") {
			t.Errorf("%s has of flannel's:\n%s", node, out)
		}
	}
	last := start(t, ns, "", "last@worker02")
	last[0].reaches(t, "http://"+a.ip+":8080/hostname", "a")
	for _, s := range streams {
		t.Logf("%s: %d answers over one connection", s.what, s.end(t))
	}
}

// loadImages gives every node the images of flannel and of towpath, and returns flannel's name.
func loadImages(t *testing.T, peer string) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "flannel.tar")
	script(t, "peer-image", peer, image)
	for _, node := range nodes(t) {
		for _, file := range []string{image, cmp.Or(os.Getenv("IMAGE_FILE"), "../../bin/towpath-image.tar")} {
			in(t, node, "ctr", "-n", "k8s.io", "images", "import", file)
		}
	}
	manifest, err := os.ReadFile(filepath.Join(peer, "kube-flannel.yml"))
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`image: *(\S+)`).FindStringSubmatch(string(manifest))[1]
}

// flannel puts the real one on a cluster that has no network.
func flannel(t *testing.T, peer string) {
	t.Helper()
	loadImages(t, peer)
	manifest, err := os.ReadFile(filepath.Join(peer, "kube-flannel.yml"))
	if err != nil {
		t.Fatal(err)
	}
	apply(t, string(manifest))
	ready(t)
}

// identities tells pods from such that were made again or restarted.
func identities(t *testing.T, ns string) string {
	t.Helper()
	return kubectl(t, "-n", ns, "get", "pods", "-l", "pod in (a, b, c, m, shut)", "-o",
		`jsonpath={range .items[*]}{.metadata.name} {.metadata.uid} {.status.podIP} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}{"\n"}{end}`)
}

// unreserved waits until the address of a pod that went is free: the API server forgets the pod before the runtime does.
func unreserved(t *testing.T, node, ip string) {
	t.Helper()
	poll(t, ip+" on "+node+" to be free", func() error {
		left, err := try(node, "ls", "/var/lib/cni/networks/cbr0")
		if err == nil && strings.Contains(left, ip+"\n") {
			err = fmt.Errorf("reserved are\n%s", left)
		}
		return err
	})
}

// lostNone reports every flow, and fails the test for a packet that was lost.
func lostNone(t *testing.T, what string, since time.Time, flows ...*flow) {
	t.Helper()
	took := time.Since(since)
	all, unanswered := 0, 0
	for _, f := range flows {
		sent, lost := f.lost(t)
		all, unanswered = all+sent, unanswered+lost
		if lost != 0 || sent < int(took.Seconds()) { // less than none: one came twice
			t.Errorf("%s: %s: %d of %d packets lost in %.0f s", what, f.what, lost, sent, took.Seconds())
		}
	}
	t.Logf("%s: %d packets in %d flows, %d without an answer", what, all, len(flows), unanswered)
}

// stream is one TCP connection from pod to pod, over which HTTP requests go one after the other until it breaks.
type stream struct {
	what string
	cmd  *exec.Cmd
	out  *os.File
}

// printed is what the client has said so far.
func (s *stream) printed(t *testing.T) string {
	t.Helper()
	out, err := os.ReadFile(s.out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// client asks $1 for its name over one connection; it prints how often, or that the connection broke.
const client = `
exec 3<>"/dev/tcp/$1/8080"
n=0 stop=
trap 'stop=1' INT TERM
until [[ $stop ]]; do
	printf 'GET /hostname HTTP/1.1\r\nHost: x\r\n\r\n' >&3
	len=
	while IFS= read -r -t 60 -u 3 line; do
		line=${line%$'\r'}
		[[ $line ]] || break
		[[ ${line,,} != content-length:* ]] || len=${line#*: }
	done
	[[ $len ]] && IFS= read -r -t 60 -u 3 -N "$len" _ || {
		[[ ! $stop ]] || break
		echo "broken after $n"
		exit 1
	}
	n=$((n + 1))
	sleep 0.05
done
echo "answers: $n"`

func dial(t *testing.T, from, to *pod) *stream {
	t.Helper()
	s := &stream{what: fmt.Sprintf("TCP %s to %s", from.name, to.name)}
	var err error
	if s.out, err = os.Create(filepath.Join(t.TempDir(), "out")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.out.Close() })
	s.cmd = background(t, s.out, from.node, "nsenter", "-n", "-t", from.pid(t), "bash", "-c", client, "client", to.ip)
	return s
}

// alive fails the test when the connection broke.
func (s *stream) alive(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.Signal(0)); err != nil || strings.Contains(s.printed(t), "broken") {
		t.Fatalf("%s: %v %s", s.what, err, s.printed(t))
	}
}

var answers = regexp.MustCompile(`answers: (\d+)`)

// end closes the connection and returns how many answers came over it.
func (s *stream) end(t *testing.T) (n int) {
	t.Helper()
	tell(s.cmd, syscall.SIGINT)
	s.cmd.Wait()
	var found []string
	poll(t, s.what, func() error {
		if found = answers.FindStringSubmatch(s.printed(t)); found == nil {
			return fmt.Errorf("it says %q", s.printed(t))
		}
		return nil
	})
	fmt.Sscan(found[1], &n)
	if n < 10 {
		t.Errorf("%s: only %d answers", s.what, n)
	}
	return n
}
