//go:build netns

package nl

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nstest"
)

// TestTUN: a kept device survives its file, one process at a time has it, and a deleted one is known by its file.
func TestTUN(t *testing.T) {
	n := nstest.New(t, "tun")
	n.Do(func() {
		conn, err := Open()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		op := conn.AddTUN("flannel-wg")
		if text := op.String(); text != "ip tuntap add dev flannel-wg mode tun vnet_hdr" {
			t.Error(text)
		}
		if err := op.Do(context.Background()); err != nil {
			t.Fatal(err)
		}
		l, ok, err := conn.Link("flannel-wg")
		if err != nil || !ok || l.Kind != "tun" {
			t.Fatalf("%+v %t %v", l, ok, err)
		}
		f, err := OpenTUN("flannel-wg")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if name, err := TUNName(f); err != nil || name != "flannel-wg" {
			t.Errorf("%q %v", name, err)
		}
		if _, err := OpenTUN("flannel-wg"); exit.Of(err) != exit.TryAgain {
			t.Errorf("opened twice: %v", err)
		}
		if err := conn.LinkDel("flannel-wg").Do(context.Background()); err != nil {
			t.Fatal(err)
		}
		if name, err := TUNName(f); err == nil {
			t.Errorf("a deleted device has the name %q", name)
		}
	})
}

// TestHasWireGuard: as ip says, which tries to make a device.
func TestHasWireGuard(t *testing.T) {
	n := nstest.New(t, "wg")
	out, err := n.Try("ip", "link", "add", "wg0", "type", "wireguard")
	if exited := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exited) || !strings.Contains(out, "Unknown device type")) {
		t.Fatalf("%v: %s", err, out)
	}
	has, err2 := HasWireGuard()
	if err2 != nil || has != (err == nil) {
		t.Errorf("HasWireGuard says %t (%v), ip %v", has, err2, err)
	}
}
