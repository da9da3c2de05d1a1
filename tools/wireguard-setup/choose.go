package main

import (
	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
)

// Who encrypts and carries the packets.
const (
	auto      = "auto"
	kernel    = "kernel"
	userspace = "userspace"
)

// choose decides on the implementation, and says why it is the userspace one.
func choose(asked string) (kind, why string, err error) {
	switch asked {
	case userspace:
		return userspace, "--implementation userspace", nil
	case auto, kernel:
	default:
		return "", "", exit.WithHint(exit.Errorf(exit.Usage, "--implementation %q: no such implementation", asked), "use auto, kernel or userspace")
	}
	has, err := nl.HasWireGuard()
	if err != nil {
		return "", "", err
	}
	return chosen(asked, has)
}

// chosen is pure: what the kernel has decides.
func chosen(asked string, has bool) (kind, why string, err error) {
	switch {
	case has:
		return kernel, "", nil
	case asked == kernel:
		return "", "", exit.WithHint(exit.Errorf(exit.Refused, "the kernel has no WireGuard"),
			"modprobe wireguard (Linux 5.6 and later have it), or let --implementation auto use the userspace one")
	}
	return userspace, "the kernel has no WireGuard", nil
}
