package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tools/policy-render/model"
	"github.com/towpath/towpath/tools/policy-render/render"
)

// vxlanPort is the port of a back end that names none: flannel's on Linux.
const vxlanPort = 8472

// withLease is the configuration of a node that has a lease.
func withLease(c render.Config, l *state.Lease) render.Config {
	c.Network, c.Subnet, c.TunnelPort = l.Network, l.Subnet, l.Backend.Port
	if c.TunnelPort == 0 && l.Backend.Type == "vxlan" {
		c.TunnelPort = vxlanPort
	}
	return c
}

// readEndpoint reads one file of endpoints/.
func readEndpoint(path string) (model.Endpoint, error) {
	e, err := state.Load[state.Endpoint](path)
	if err != nil {
		return model.Endpoint{}, err
	}
	out := model.Endpoint{
		ID: endpointID(path), Pod: model.Key{Namespace: e.Namespace, Name: e.Pod}, UID: e.UID, Veth: e.HostVeth, MAC: e.MAC, Bridge: e.Bridge,
	}
	if e.Namespace == "" || e.Pod == "" {
		out.Pod = model.Key{}
	}
	for _, f := range state.Families {
		if e.IP.Has(f) {
			out.IPs = append(out.IPs, e.IP.Of(f).Unmap().WithZone(""))
		}
	}
	if err := render.CheckEndpoint(out); err != nil {
		return out, &state.Error{Path: path, Err: err}
	}
	return out, nil
}

// endpointID is the name that policy.nft and policy.loaded.json give an endpoint.
func endpointID(path string) string { return strings.TrimSuffix(filepath.Base(path), ".json") }

func isEndpoint(path string) bool {
	base := filepath.Base(path)
	id := endpointID(path)
	return !strings.HasPrefix(base, ".") && id != base && id != "" && !strings.ContainsAny(id, "\n\r")
}

// endpointFiles are the paths of the files in endpoints/.
func endpointFiles(dir state.Dir) ([]string, error) {
	entries, err := os.ReadDir(dir.Endpoints())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list endpoints: %w", err)
	}
	var out []string
	for _, e := range entries {
		if path := filepath.Join(dir.Endpoints(), e.Name()); isEndpoint(path) {
			out = append(out, path)
		}
	}
	return out, nil
}

// errNoNode says what to do without a lease.
var errNoNode = exit.WithHint(exit.Errorf(exit.Usage, "which node is not known"), "give --node NAME, or --run-dir with a lease.json")
