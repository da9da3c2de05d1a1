package node

import (
	"net"
	"testing"

	"github.com/towpath/towpath/lib/nstest"
)

// mac is the MAC address of a device of a namespace.
func mac(t testing.TB, n *nstest.Namespace, device string) net.HardwareAddr {
	t.Helper()
	var link *net.Interface
	var err error
	n.Do(func() { link, err = net.InterfaceByName(device) })
	if err != nil {
		t.Fatal(err)
	}
	return link.HardwareAddr
}
