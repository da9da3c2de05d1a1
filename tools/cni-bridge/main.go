// Command cni-bridge connects pods to the node's bridge. The container runtime runs it as a CNI plugin
// (CNI_COMMAND in the environment): it reads subnet.env and the network configuration, makes a veth
// pair, gives the pod an address out of the lease, and writes endpoints/CONTAINER-IFNAME.json for
// policy-render. Run by hand or by the supervisor, `cni-bridge conf` reads lease.json, link.json,
// routes.json and cni-conf.json and writes subnet.env and the conflist whose appearance makes the node
// Ready. It is one process where flannel's chain is three, and does in it what they do.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if os.Getenv("CNI_COMMAND") != "" {
		os.Exit(plugin())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
