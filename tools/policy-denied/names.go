package main

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/lib/state"
)

// names finds who has an address or a device. Every answer is of now: a pod that ended meanwhile has none.
type names struct {
	dir state.Dir

	read   time.Time // when endpoints/ was read
	made   time.Time // its time of change then
	byAddr map[netip.Addr]state.Endpoint
	byVeth map[string]state.Endpoint
}

// settled is how long after a change of the directory its time tells the next one apart.
const settled = 50 * time.Millisecond

// refresh reads endpoints/ where it has changed. A file that cannot be read is another program's to complain of.
func (n *names) refresh() {
	info, err := os.Stat(n.dir.Endpoints())
	if err == nil && info.ModTime().Equal(n.made) && n.read.Sub(n.made) > settled {
		return
	}
	n.read, n.made = time.Now(), time.Time{}
	if err == nil {
		n.made = info.ModTime()
	}
	n.byAddr, n.byVeth = map[netip.Addr]state.Endpoint{}, map[string]state.Endpoint{}
	entries, _ := os.ReadDir(n.dir.Endpoints())
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".json") {
			continue
		}
		e, err := state.Load[state.Endpoint](filepath.Join(n.dir.Endpoints(), entry.Name()))
		if err != nil {
			continue
		}
		for _, f := range state.Families {
			if e.IP.Has(f) {
				n.byAddr[e.IP.Of(f)] = e
			}
		}
		if e.HostVeth != "" {
			n.byVeth[e.HostVeth] = e
		}
	}
}

// pod is the pod that has an address, "" when none is known.
func (n *names) pod(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	n.refresh()
	if e, ok := n.byAddr[a]; ok && e.Pod != "" {
		return e.Namespace + "/" + e.Pod
	}
	data, err := os.ReadFile(filepath.Join(n.dir.PolicyPods(), state.PolicyPodsName(state.PolicyPodsPrefix(a))))
	if err != nil {
		return ""
	}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		if addr, pod, ok := strings.Cut(lines.Text(), " "); ok && addr == a.String() {
			return pod
		}
	}
	return ""
}

// endpoint is the one behind a device of this node.
func (n *names) endpoint(device string) (state.Endpoint, bool) {
	n.refresh()
	e, ok := n.byVeth[device]
	return e, ok
}

// closed finds the address that the kernel has no rules for, of this node's: its endpoint is not covered,
// or it has none.
func (n *names) closed(addrs ...netip.Addr) (a netip.Addr, e state.Endpoint, ok bool) {
	n.refresh()
	lease, err := state.Load[state.Lease](n.dir.Lease())
	if err != nil {
		return a, e, false
	}
	loaded, err := state.Load[state.PolicyLoaded](n.dir.PolicyLoaded())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return a, e, false
	}
	for _, a := range addrs {
		subnet := netip.Prefix{}
		if a.IsValid() {
			subnet = lease.Subnet.Of(state.FamilyOf(a))
		}
		e, known := n.byAddr[a]
		switch {
		case !subnet.IsValid() || !subnet.Contains(a):
		case !known, !slices.Contains(loaded.Endpoints, e.ContainerID+"-"+e.Interface):
			return a, e, true
		}
	}
	return a, e, false
}

// policies are those that isolate the pods of a group, by the notes of the chain that dropped the packet.
func (n *names) policies(group string) []string {
	if ruleset.CheckName(group) != nil {
		return nil
	}
	id := ruleset.DenyChain("inet", group)
	data, err := os.ReadFile(filepath.Join(n.dir.Policy(), id.Path()))
	if err != nil {
		return nil
	}
	chain, err := ruleset.Parse(id.Family, data)
	if err != nil {
		return nil
	}
	var all []string
	for _, note := range chain.Notes {
		if _, list, ok := strings.Cut(note, ": "); ok {
			all = append(all, strings.Fields(list)...)
		}
	}
	return all
}
