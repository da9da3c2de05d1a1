//go:build netns

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/lock"
	"github.com/towpath/towpath/lib/state"
)

// loader stands in for policy-render and policy-load: it covers what is in endpoints/.
type loader struct {
	h    *host
	mu   sync.Mutex
	took []time.Duration // for each file written
}

func (l *loader) cover(names ...string) {
	l.h.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	begin := time.Now()
	loaded := state.PolicyLoaded{Version: state.Version, Generation: "g", Endpoints: []string{"another-eth0"}}
	loaded.Endpoints = append(loaded.Endpoints, names...)
	if _, err := state.Save(l.h.run.PolicyLoaded(), loaded); err != nil {
		l.h.t.Error(err)
	}
	l.took = append(l.took, time.Since(begin))
}

// run covers each endpoint as soon as it is there, until stop is called.
func (l *loader) run() (stop func()) {
	if err := os.MkdirAll(l.h.run.Endpoints(), 0o755); err != nil {
		l.h.t.Fatal(err)
	}
	n := newNotice(l.h.run.Endpoints())
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer n.close()
		for {
			names, _ := readNames(l.h.run.Endpoints())
			var endpoints []string
			for _, name := range names {
				if name, ok := strings.CutSuffix(name, ".json"); ok {
					endpoints = append(endpoints, name)
				}
			}
			l.cover(endpoints...)
			select {
			case <-end:
				return
			default:
				n.wait(50 * time.Millisecond)
			}
		}
	}()
	return func() { close(end); <-ended }
}

func (h *host) policed(version string, more map[string]any) map[string]any {
	conf := h.conf(version, more)
	conf["policy"] = true
	return conf
}

// TestPolicyWait: until the policy covers the pod, its host end is down; then ADD returns, the pod's
// announcement has gone out, and it reaches others.
func TestPolicyWait(t *testing.T) {
	h := newHost(t, envDual)
	l := &loader{h: h}
	l.cover()
	first := newContainer(t, "first")
	h.add(first, h.conf("1.0.0", nil)) // so that cni0 stands

	a := newContainer(t, "a")
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.add(a, h.policed("1.0.0", map[string]any{"policyTimeout": 60}))
	}()
	await(t, func() bool {
		_, err := h.Try("ip", "link", "show", vethOf("a"))
		return err == nil && exists(h.run.Endpoint("a", "eth0"))
	})
	e, err := state.Load[state.Endpoint](h.run.Endpoint("a", "eth0"))
	if err != nil || e.HostVeth != vethOf("a") || e.Bridge != "cni0" || e.MAC != "0a:58:0a:f4:01:03" {
		t.Errorf("endpoint: %+v %v", e, err)
	}
	await(t, func() bool { // everything else is done meanwhile
		out, _ := a.Try("ip", "-br", "addr", "show", "eth0")
		return strings.Contains(out, "fd00:10:0:1::3/64")
	})
	for range 20 { // the policy may cover others meanwhile
		l.cover(fmt.Sprint("x", time.Now().UnixNano()))
		if out := h.Run("ip", "-br", "link", "show", vethOf("a")); !strings.Contains(out, "DOWN") || strings.Contains(out, "UP") {
			t.Fatalf("the host end is up before the policy covers the pod: %s", out)
		}
		select {
		case <-done:
			t.Fatal("ADD returned before the policy covers the pod")
		default:
		}
	}
	l.cover("a-eth0")
	<-done
	a.Run("ping", "-c1", "-W5", "10.244.1.2")
	a.Run("ping", "-c1", "-W5", "fd00:10:0:1::2")
	if out := a.Run("ip", "-6", "route", "show", "default"); !strings.Contains(out, "fd00:10:0:1::1") {
		t.Errorf("default route: %s", out)
	}
	h.must("DEL", a, h.policed("1.0.0", nil))
}

// TestPolicyTimeout: an ADD that no policy comes for says why, and leaves nothing.
func TestPolicyTimeout(t *testing.T) {
	h := newHost(t, envV4)
	a := newContainer(t, "a")
	conf := h.policed("1.0.0", map[string]any{"policyTimeout": 0.05})
	fails := func(words string) {
		t.Helper()
		h.fails(11, "no policy covers pod dev/a (endpoint a-eth0) after 50ms: "+words, "ADD", a, conf)
		if left := h.leftovers(); len(left) > 0 {
			t.Errorf("left over: %v", left)
		}
	}
	fails(h.run.PolicyLoaded() + " is missing: policy-load has given the kernel nothing (policy-load is not at work)")
	h.write(h.run.PolicyLoaded(), "{")
	fails(`read "` + h.run.PolicyLoaded() + `": JSON ends too early`)
	h.write(h.run.PolicyLoaded(), `{"version": 1, "endpoints": ["aa-eth0"]}`)
	fails("policy-render has written no policy")
	h.write(h.run.PolicyNFT(), "# policy of node n\n# endpoint aa-eth0\n")
	fails("policy.nft does not cover it: policy-render does not know the pod (no such Pod object, or one with another uid than u-a), lets none start on a bridge that passes the rules by, or is behind (policy-render is not at work)")
	held, err := lock.Try(h.run.Lock("policy-render"), "policy-render watch")
	if err != nil {
		t.Fatal(err)
	}
	fails("policy.nft does not cover it: policy-render does not know the pod (no such Pod object, or one with another uid than u-a), lets none start on a bridge that passes the rules by, or is behind\n")
	if err := held.Release(); err != nil {
		t.Error(err)
	}
	h.write(h.run.PolicyNFT(), "# policy of node n\n# endpoint a-eth0\n")
	fails("policy.nft covers it, and policy-load has not loaded that (policy-load is not at work)")
	h.write(h.run.PolicyLoaded(), `{"version": 1, "endpoints": [], "refused": "line 7: syntax error"}`)
	fails("the kernel refused the policy that would: line 7: syntax error")
	conf["policyTimeout"] = -1
	h.fails(7, `key "policyTimeout": -1 is no time to wait`, "ADD", a, conf)
	conf["policyTimeout"] = "long"
	h.fails(6, `key "policyTimeout"`, "ADD", a, conf)
}

// TestPolicyCheck: CHECK and STATUS look at the policy where pods wait for it.
func TestPolicyCheck(t *testing.T) {
	h := newHost(t, envV4)
	l := &loader{h: h}
	conf := h.policed("1.1.0", nil)
	h.fails(50, h.run.PolicyLoaded()+" is missing: policy-load has given the kernel no policy", "STATUS", container{}, conf)
	h.must("STATUS", container{}, h.conf("1.1.0", nil))
	l.cover("a-eth0")
	h.must("STATUS", container{}, conf)
	a := newContainer(t, "a")
	r := h.add(a, conf)
	conf["prevResult"] = asVersion(t, r, "1.1.0")
	h.must("CHECK", a, conf)
	l.cover()
	h.fails(101, "no policy covers pod dev/a (endpoint a-eth0)", "CHECK", a, conf)
	h.must("DEL", a, conf)
	if left := h.leftovers(); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// TestPolicyDelegate: what a delegate has connected is reported when the policy covers it, and undone when
// none comes.
func TestPolicyDelegate(t *testing.T) {
	h := newHost(t, envV4)
	h.write(filepath.Join(h.path, "macvlan"), fake)
	a := newContainer(t, "a")
	conf := h.policed("1.1.0", map[string]any{"delegate": map[string]any{"type": "macvlan"}, "policyTimeout": 0.05})
	h.fails(11, "no policy covers pod dev/a", "ADD", a, conf)
	if left := h.leftovers(); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	calls, _ := os.ReadFile(filepath.Join(h.path, "calls"))
	if want := "ADD a eth0 " + a.Path + "\nDEL a eth0 " + a.Path + "\n"; string(calls) != want {
		t.Errorf("calls: %q, want %q", calls, want)
	}
	conf["policyTimeout"] = 30
	stop := (&loader{h: h}).run()
	defer stop()
	if r := h.add(a, conf); addrOf(r, 0) != "10.244.1.9" {
		t.Errorf("the delegate's result is not ours: %+v", r)
	}
	h.must("DEL", a, conf)
}

// TestPolicyAnnounced: who knows an old neighbour of a pod's address learns the new one, since the pod's end
// goes up when its host end has. (The kernel does not promise that each announcement passes a port that has
// just come up, so one of several has to.)
func TestPolicyAnnounced(t *testing.T) {
	h := newHost(t, envV4)
	defer (&loader{h: h}).run()()
	first := newContainer(t, "first")
	h.add(first, h.conf("1.0.0", nil))
	var learned []string
	for i := range 30 {
		ip := fmt.Sprint("10.244.1.", 3+i)
		first.Run("ip", "neigh", "replace", ip, "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "stale")
		h.add(newContainer(t, fmt.Sprint("a", i)), h.policed("1.0.0", nil))
		if learned = append(learned, first.Run("ip", "neigh", "show", ip)); strings.Contains(learned[i], "0a:58") {
			return
		}
	}
	t.Errorf("no announcement arrived: %q", learned)
}

// TestPolicyMany: pods started at once.
func TestPolicyMany(t *testing.T) {
	h := newHost(t, envV4)
	defer (&loader{h: h}).run()()
	const n = 16
	pods := make([]container, n)
	for i := range pods {
		pods[i] = newContainer(t, fmt.Sprint("p", i))
	}
	var wait sync.WaitGroup
	for _, p := range pods {
		wait.Go(func() {
			if out, failed := h.call("ADD", p, h.policed("1.0.0", nil)); failed != nil {
				t.Errorf("%s: %v %s", p.id, failed, out)
			}
		})
	}
	wait.Wait()
	for _, p := range pods {
		p.Run("ping", "-c1", "-W5", "10.244.1.1")
	}
}

// TestPause: a wait is made longer by a sixteenth at most, or by less than a millisecond, and costs few looks.
func TestPause(t *testing.T) {
	looks := 0
	for waited := time.Duration(0); waited < 10*time.Second; looks++ {
		d := pause(waited)
		if d <= 0 || d > max(waited/16, time.Millisecond) {
			t.Errorf("after %s: %s", waited, d)
		}
		waited += d
	}
	if looks > 1000 {
		t.Errorf("%d looks in 10 s", looks)
	}
}

// notice tells the loader when files of a directory are replaced.
type notice struct{ fd int }

func newNotice(dir string) notice {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return notice{-1}
	}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MOVED_TO|unix.IN_CLOSE_WRITE); err != nil {
		unix.Close(fd)
		return notice{-1}
	}
	return notice{fd}
}

func (n notice) close() {
	if n.fd >= 0 {
		unix.Close(n.fd)
	}
}

const unwatched = 10 * time.Millisecond

// wait returns when something was replaced, or after the time given at the latest.
func (n notice) wait(most time.Duration) {
	if n.fd < 0 {
		<-time.After(min(most, unwatched))
		return
	}
	fds := []unix.PollFd{{Fd: int32(n.fd), Events: unix.POLLIN}}
	_, _ = unix.Poll(fds, int(most.Milliseconds())+1) // an interrupted one only looks again
	var events [4096]byte
	for {
		if k, err := unix.Read(n.fd, events[:]); err != nil || k <= 0 {
			return
		}
	}
}
