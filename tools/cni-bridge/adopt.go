package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"

	"github.com/towpath/towpath/lib/keep"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
)

// Adoption makes the endpoint files of pods that run already and have none, since flannel's plugin attached them: without an
// endpoint a pod is unknown to policy-render, and closed. Who the pod is and what it was given is in the files in which
// libcni, with which runtimes call plugins, keeps the result of each ADD; whether that is still so, the kernel and host-local's
// reservations say. DEL, CHECK and GC need nothing more: they honour what flannel's plugin and host-local left.

// cached is a file of libcni's cache, CACHE/results/NETWORK-CONTAINER-IFNAME.
type cached struct {
	Kind        string          `json:"kind"`
	ContainerID string          `json:"containerId"`
	IfName      string          `json:"ifName"`
	NetworkName string          `json:"networkName"`
	Args        [][2]string     `json:"cniArgs"`
	Result      json.RawMessage `json:"result"`
}

// maxCached is the largest file of the cache that is read, bytes.
const maxCached = 1 << 20

// parseCached reads a file of the cache. Files of another kind, older ones, have no names of pods.
func parseCached(data []byte) (cached, *current.Result, error) {
	var c cached
	if err := json.Unmarshal(data, &c); err != nil {
		return c, nil, err
	}
	if c.Kind != "cniCacheV1" || c.ContainerID == "" || c.IfName == "" {
		return c, nil, fmt.Errorf("kind %q of container %q: not what libcni writes", c.Kind, c.ContainerID)
	}
	raw, err := create.CreateFromBytes(c.Result)
	if err != nil {
		return c, nil, err
	}
	result, err := current.NewResultFromResult(raw)
	if err == nil && (slices.Contains(result.IPs, nil) || slices.Contains(result.Interfaces, nil)) {
		err = errors.New("null among the result's addresses or interfaces")
	}
	return c, result, err
}

// arg is a value of CNI_ARGS.
func (c cached) arg(key string) string {
	for _, a := range c.Args {
		if a[0] == key {
			return a[1]
		}
	}
	return ""
}

// endpointOf is the endpoint that the result tells of; why says what it lacks.
func endpointOf(c cached, r *current.Result, bridge string) (e state.Endpoint, why string) {
	e = state.Endpoint{
		Version: state.Version, Network: c.NetworkName, ContainerID: c.ContainerID, Interface: c.IfName, Bridge: bridge,
		Namespace: c.arg("K8S_POD_NAMESPACE"), Pod: c.arg("K8S_POD_NAME"), UID: c.arg("K8S_POD_UID"),
	}
	for _, p := range wantAddrs(r) {
		if f := state.FamilyOf(p.Addr()); !e.IP.Has(f) {
			e.IP.Set(f, p.Addr())
		}
	}
	for _, i := range r.Interfaces {
		switch {
		case i.Sandbox != "" && i.Name == c.IfName:
			e.MAC, e.Netns = i.Mac, i.Sandbox
		case i.Sandbox == "" && i.Name != bridge:
			e.HostVeth = i.Name
		}
	}
	switch {
	case e.Namespace == "" || e.Pod == "":
		return e, "it does not name the pod"
	case e.IP == (state.Pair[netip.Addr]{}):
		return e, "it has no address"
	case e.HostVeth == "":
		return e, "it does not name the host end"
	case e.MAC == "":
		return e, "it does not name the pod's MAC address"
	}
	return e, ""
}

// adoption looks for pods of one network.
type adoption struct {
	*conf
	net    *netConf
	store  *store
	socket *nl.Socket
	bridge nl.Device
}

// adoptOps writes an endpoint file for each running pod of our network that has none.
func (c *conf) adoptOps(list conflist) ([]plan.Op, error) {
	n, err := list.own()
	if err != nil || !n.native() {
		return nil, err // another plugin's pods are on no bridge
	}
	a := &adoption{conf: c, net: n}
	if a.store, err = openStore(n.ipam.DataDir, n.Name); err != nil {
		return nil, err
	}
	if a.socket, err = nl.OpenSocket(); err != nil {
		return nil, err
	}
	defer a.socket.Close() //nolint:errcheck // nothing is buffered
	var ok bool
	if a.bridge, ok, err = a.socket.Device(n.bridge.Bridge); err != nil || !ok || a.bridge.Kind != "bridge" {
		return nil, err // no bridge, no pods
	}
	results := filepath.Join(c.cacheDir, "results")
	names, err := readNames(results)
	slices.Sort(names)
	var ops []plan.Op
	found := map[holder]bool{}
	for _, name := range names {
		if !strings.HasPrefix(name, n.Name+"-") {
			continue
		}
		h, op, oerr := a.pod(filepath.Join(results, name))
		if oerr != nil {
			err = errors.Join(err, oerr)
			continue
		}
		found[h] = true
		if op != nil {
			ops = append(ops, op)
		}
	}
	return ops, errors.Join(err, a.tellOfOthers(found))
}

// pod is the write of one pod's endpoint file; nil where it has one, or has ended.
func (a *adoption) pod(path string) (holder, plan.Op, error) {
	data, err := state.ReadFile(path, maxCached)
	if err != nil {
		return holder{}, nil, skipMissing(err)
	}
	c, result, err := parseCached(data)
	h := holder{c.ContainerID, c.IfName}
	file := a.dir.Endpoint(h.Container, h.Interface)
	if err != nil || c.NetworkName != a.net.Name || exists(file) {
		if err != nil && a.fresh(path) {
			a.log.Warn("cannot read what the runtime noted of a container", "path", path, "err", err)
		}
		return h, nil, nil
	}
	e, why := endpointOf(c, result, a.net.bridge.Bridge)
	if why == "" {
		if why, err = a.differs(h, e); err != nil {
			return h, nil, err
		}
	}
	if why != "" {
		if a.fresh(path) {
			a.log.Debug("no pod to adopt", "path", path, "err", why)
		}
		return h, nil, nil
	}
	op, err := state.WriteOp(file, e)
	return h, op, err
}

// differs says how the kernel and the reservations contradict the cache; empty when they do not. The namespace is looked
// at from outside: entering it needs more rights than a container of towpath has.
func (a *adoption) differs(h holder, e state.Endpoint) (string, error) {
	veth, ok, err := a.socket.Device(e.HostVeth)
	switch {
	case err != nil:
		return "", err
	case !ok:
		return fmt.Sprintf("host end %q is gone", e.HostVeth), nil
	case veth.Kind != "veth" || veth.Master != a.bridge.Index:
		return fmt.Sprintf("host end %q is no veth of bridge %q", e.HostVeth, a.bridge.Name), nil
	}
	for _, f := range state.Families {
		if ip := e.IP.Of(f); ip.IsValid() && !a.store.holds(h, ip) && !a.store.holds(holder{Container: h.Container}, ip) {
			return fmt.Sprintf("address %s is not reserved for it", ip), nil
		}
	}
	netns, err := nl.OpenNetns(e.Netns)
	if err != nil {
		return "", nil //nolint:nilerr // where the runtime's namespaces cannot be seen, the device in one says that it lives
	}
	defer netns.Close() //nolint:errcheck // nothing is buffered
	same, err := nl.PeerIn(veth.Name, netns)
	if err == nil && !same {
		return fmt.Sprintf("host end %q leads to another namespace than %s", e.HostVeth, e.Netns), nil
	}
	return "", err
}

// tellOfOthers warns of addresses in use by containers of which nothing is known.
func (a *adoption) tellOfOthers(found map[holder]bool) error {
	return a.store.reservations(func(ip netip.Addr, h holder) {
		if h.Interface == "" {
			h.Interface = "eth0"
		}
		if !found[h] && !exists(a.dir.Endpoint(h.Container, h.Interface)) && a.fresh(a.store.path(ip)) {
			a.log.Warn("an address is in use by a container of which the runtime noted nothing: if it runs, policy leaves it closed; delete its pod",
				"path", a.store.path(ip), "container", h.Container)
		}
	})
}

func skipMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// adopt is the verb: before policy is rendered for the first time on a node with pods.
func (c *conf) adopt(context.Context) ([]plan.Op, error) {
	list, err := loadCNIConf(c.cniConf)
	if err != nil {
		return nil, err
	}
	return c.adoptOps(list)
}

// runAdopt does one verb of adopt.
func (c *conf) runAdopt(ctx context.Context, verb string, stdout io.Writer) error {
	show := func(op plan.Op) { fmt.Fprintln(stdout, op) }
	if verb == "apply" {
		return keep.Settle(ctx, c.adopt, show)
	}
	return c.show(ctx, c.adopt, show)
}

// show prints a plan, and rehearses it where it was told to.
func (c *conf) show(ctx context.Context, list func(context.Context) ([]plan.Op, error), show func(plan.Op)) error {
	ops, err := list(ctx)
	for _, op := range ops {
		show(op)
	}
	if c.rehearse {
		err = errors.Join(err, c.dir.Rehearse(ctx, ops))
	}
	return err
}

// own is the plugin's object of the list as the plugin will read it.
func (c conflist) own() (*netConf, error) {
	n := newNetConf()
	for _, p := range c.plugins() {
		if !ours(p) {
			continue
		}
		data, err := json.Marshal(p)
		if err == nil {
			err = state.Decode(data, n)
		}
		if err == nil {
			n.Name, _ = c.object["name"].(string)
			n.SubnetFile = state.Dir(n.RunDir).SubnetEnv() // conf says where it is, and nobody asks here
			err = n.check(nil)
		}
		if err != nil {
			return nil, c.name(err)
		}
	}
	return n, nil
}
