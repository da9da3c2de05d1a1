package sysctl

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/towpath/towpath/lib/plan"
)

// Anew stands in the place of a device for the parameters that devices are made with.
const Anew = "default"

// AcceptRA is whether a device believes IPv6 router advertisements.
func AcceptRA(device string) string { return filepath.Join("net/ipv6/conf", device, "accept_ra") }

// DisableIPv6 is whether a device has no IPv6; then the kernel refuses it an address with EACCES.
func DisableIPv6(device string) string { return filepath.Join("net/ipv6/conf", device, "disable_ipv6") }

// Not0 says that a parameter is something else than 0 and could be 0: one that is missing or read-only cannot be changed.
func Not0(name string) (bool, error) {
	value, err := Get(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && value != "0" && !ReadOnly(name), err
}

// Zero is the operation that sets a parameter to 0.
func Zero(name string) plan.Op {
	return plan.Func{Text: "sysctl -w " + name + "=0", Run: func(context.Context) error { return Set(name, "0") }}
}
