package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/lock"
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
	end := time.Now().Add(timeout)
	n := newNotice(filepath.Dir(path))
	defer n.close()
	for !c.covered(path) {
		left := time.Until(end)
		if left <= 0 {
			return types.NewError(types.ErrTryAgainLater, fmt.Sprintf("no policy covers %s after %s: %s", c.podName(), timeout, c.uncovered()), "see towpath status")
		}
		n.wait(left)
	}
	return nil
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
	case bytes.Contains(manifest, []byte("\n# endpoint "+c.endpointName()+"\n")):
		return "policy.nft covers it, and policy-load has not loaded that" + idle(dir, "policy-load")
	}
	uid := c.endpoint().UID
	if uid == "" {
		uid = "none"
	}
	return fmt.Sprintf("policy.nft does not: policy-render does not know the pod (no such Pod object, or one with another uid than %s), or is behind%s", uid, idle(dir, "policy-render"))
}

// idle says that a program does not run.
func idle(dir state.Dir, program string) string {
	if _, held, err := lock.Held(dir.Lock(program)); err != nil || held {
		return ""
	}
	return " (" + program + " is not at work)"
}

// notice tells when files of a directory are replaced. Where the kernel has no watch left to give (a node may
// start more pods at once than a user may have watches), wait is short instead.
type notice struct{ fd int }

func newNotice(dir string) notice {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return notice{-1}
	}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MOVED_TO|unix.IN_CLOSE_WRITE); err != nil {
		unix.Close(fd) //nolint:errcheck // nothing is buffered
		return notice{-1}
	}
	return notice{fd}
}

func (n notice) close() {
	if n.fd >= 0 {
		unix.Close(n.fd) //nolint:errcheck // nothing is buffered
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
