package nstest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

const asProgram = "TOWPATH_NSTEST_PROGRAM"

// Program makes the test binary be the program as well: called first thing in TestMain, with the
// program's main function, which exits. Self starts it.
func Program(main func()) {
	if os.Getenv(asProgram) != "" {
		os.Unsetenv(asProgram) //nolint:errcheck // its children are no tests either way
		main()
	}
}

// Self is the program under test (see Program) as a process inside the namespace.
func (n *Namespace) Self(args ...string) *exec.Cmd {
	n.t.Helper()
	self, err := os.Executable()
	if err != nil {
		n.t.Fatal(err)
	}
	cmd := n.Command(self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// Snapshot is what the namespace's kernel holds, as text to compare: links in detail, addresses,
// routes of every table, neighbours, FDB entries and nftables rules. It waits until nothing changes any more by itself, as
// addresses and their routes do a moment after a device was set up.
func (n *Namespace) Snapshot() string {
	n.t.Helper()
	now, before := n.snapshot(), ""
	for end := time.Now().Add(5 * time.Second); now != before && time.Now().Before(end); {
		<-time.After(50 * time.Millisecond)
		now, before = n.snapshot(), now
	}
	return now
}

func (n *Namespace) snapshot() string {
	n.t.Helper()
	var b strings.Builder
	for _, command := range []string{
		"ip -d link show", "ip addr show", "ip route show table all", "ip -6 route show table all",
		"ip neigh show nud permanent", "ip -6 neigh show nud permanent", "bridge fdb show", "nft list ruleset",
	} {
		words := strings.Fields(command)
		fmt.Fprintf(&b, "# %s\n%s", command, n.Run(words[0], words[1:]...))
	}
	return b.String()
}

// NoDAD turns duplicate address detection off for devices still to be made, so that no address of
// theirs changes by itself.
func (n *Namespace) NoDAD() {
	n.t.Helper()
	n.Run("sh", "-c", "for f in all default; do echo 0 >/proc/sys/net/ipv6/conf/$f/accept_dad; done")
}

// Eventually polls until check returns "" and fails the test with what it returned last otherwise. It
// returns how long that took.
func (n *Namespace) Eventually(limit time.Duration, check func() string) time.Duration {
	n.t.Helper()
	start := time.Now()
	for {
		what := check()
		took := time.Since(start)
		if what == "" {
			return took
		}
		if took > limit {
			n.t.Fatalf("not within %s: %s", limit, what)
		}
		<-time.After(5 * time.Millisecond)
	}
}
