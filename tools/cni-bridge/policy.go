package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/lock"
	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/lib/state"
)

// endpointName is what the endpoint is called in policy.nft and policy.loaded.json.
func (c *call) endpointName() string { return c.Container + "-" + c.Interface }

// podName is what people call it.
func (c *call) podName() string {
	e := c.endpoint()
	if e.Pod == "" {
		return "endpoint " + c.endpointName()
	}
	return fmt.Sprintf("pod %s/%s (endpoint %s)", e.Namespace, e.Pod, c.endpointName())
}

// awaitPolicy waits until the kernel holds rules for the endpoint. Nobody is asked but a file: the rules are
// made from the endpoint file, which was written before.
func (c *call) awaitPolicy() error {
	path := state.Dir(c.conf.RunDir).PolicyLoaded()
	timeout := time.Duration(c.conf.PolicyTimeout * float64(time.Second))
	begin := time.Now()
	for seen := (unix.Stat_t{Size: -1}); ; {
		// The stamp is taken first: what is written after it shows at the next look.
		if stamp := stampOf(path); stamp != seen {
			if seen = stamp; c.covered(path) {
				return nil
			}
		}
		waited := time.Since(begin)
		if waited >= timeout {
			return types.NewError(types.ErrTryAgainLater, fmt.Sprintf("no policy covers %s after %s: %s", c.podName(), timeout, c.uncovered()), "see towpath status")
		}
		sleep(min(pause(waited), timeout-waited))
	}
}

// covered says whether policy.loaded.json names the endpoint. Where hundreds of pods start at once the file
// changes as often for each of them, so that it is searched before it is understood.
func (c *call) covered(path string) bool {
	data, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(data, strconv.AppendQuote(nil, c.endpointName())) {
		return false
	}
	loaded, err := state.Load[state.PolicyLoaded](path)
	return err == nil && slices.Contains(loaded.Endpoints, c.endpointName())
}

// uncovered is why no policy covers the endpoint, as far as the files tell; empty when one does.
func (c *call) uncovered() string {
	dir := state.Dir(c.conf.RunDir)
	loaded, err := state.Load[state.PolicyLoaded](dir.PolicyLoaded())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return dir.PolicyLoaded() + " is missing: policy-load has given the kernel nothing" + idle(dir, "policy-load")
	case err != nil:
		return err.Error()
	case slices.Contains(loaded.Endpoints, c.endpointName()):
		return ""
	case loaded.Refused != "":
		return "the kernel refused the policy that would: " + loaded.Refused
	}
	manifest, err := os.ReadFile(dir.PolicyNFT())
	switch {
	case err != nil:
		return "policy-render has written no policy: " + err.Error() + idle(dir, "policy-render")
	case ruleset.Covers(manifest, c.endpointName()):
		return "policy.nft covers it, and policy-load has not loaded that" + idle(dir, "policy-load")
	}
	uid := c.endpoint().UID
	if uid == "" {
		uid = "none"
	}
	return fmt.Sprintf("policy.nft does not cover it: policy-render does not know the pod (no such Pod object, or one with another uid than %s), lets none start on a bridge that passes the rules by, or is behind%s", uid, idle(dir, "policy-render"))
}

// idle says that a program does not run.
func idle(dir state.Dir, program string) string {
	if _, held, err := lock.Held(dir.Lock(program)); err != nil || held {
		return ""
	}
	return " (" + program + " is not at work)"
}

// pause is how long to wait before the next look: a sixteenth of the wait so far, so that neither a short wait is made
// much longer nor a long one costs much. The file is looked at and not watched because the kernel takes its time to
// end a process with an inotify watch (a grace period: measured 7 ms in the median, 19 ms and more on a busy node).
func pause(waited time.Duration) time.Duration {
	return min(max(waited/16, 200*time.Microsecond), 20*time.Millisecond)
}

// sleep is exact below a millisecond, which the runtime's timers are not in a process that reads pipes.
func sleep(d time.Duration) {
	ts := unix.NsecToTimespec(d.Nanoseconds())
	_ = unix.Nanosleep(&ts, nil) // interrupted: the next look is earlier
}

// stampOf changes with the file; zero while there is none.
func stampOf(path string) (s unix.Stat_t) {
	var st unix.Stat_t
	if unix.Stat(path, &st) == nil {
		s.Dev, s.Ino, s.Size, s.Mtim, s.Ctim = st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim
	}
	return s
}
