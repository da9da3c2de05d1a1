package nl

import (
	"os"
	"strings"
	"syscall"

	"github.com/towpath/towpath/lib/exit"
)

// Place is where what a program remembers of the kernel counts: one boot, one network namespace.
type Place struct {
	Boot  string // /proc/sys/kernel/random/boot_id
	Netns uint64 // inode of the network namespace
}

// Here is the place of the calling thread.
func Here() (Place, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Place{}, exit.Errorf(exit.Refused, "read the boot id: %w", err)
	}
	st, err := os.Stat("/proc/thread-self/ns/net")
	if err != nil {
		return Place{}, exit.Errorf(exit.Refused, "read the network namespace: %w", err)
	}
	p := Place{Boot: strings.TrimSpace(string(boot))}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		p.Netns = sys.Ino
	}
	return p, nil
}
