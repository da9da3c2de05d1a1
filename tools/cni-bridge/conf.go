package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/watch"
)

// conf turns what the other programs found out about this node into its CNI configuration.
type conf struct {
	options
	dir  state.Dir
	log  *slog.Logger
	told []string // paths warned of, so that a watch does it once
	// loaded is whether the last plan found policy.loaded.json.
	loaded atomic.Bool
	moved  bool // an earlier network's configuration was moved aside in this run
}

func (c *conf) inputs() []string {
	return []string{c.dir.Lease(), c.dir.Link(), c.dir.Routes(), c.cniConf, c.dir.PolicyLoaded()}
}

// heeded leaves out the changes that only say that policy.loaded.json has other content, which it has with
// each pod.
func (c *conf) heeded(ctx context.Context, changes <-chan watch.Change) <-chan watch.Change {
	out := make(chan watch.Change)
	go func() {
		for {
			var change watch.Change
			select {
			case <-ctx.Done():
				return
			case change = <-changes:
			}
			other := change.All || len(change.Paths) > 1 || !change.Has(c.dir.PolicyLoaded())
			if !other && exists(c.dir.PolicyLoaded()) == c.loaded.Load() {
				continue
			}
			select {
			case <-ctx.Done():
				return
			case out <- change:
			}
		}
	}()
	return out
}

// polices says whether pods are to wait for policy-load.
func (c *conf) polices() (bool, error) {
	there := exists(c.dir.PolicyLoaded())
	c.loaded.Store(there)
	if c.policy == "on" && !there {
		return false, exit.WithHint(exit.Errorf(exit.TryAgain, "read %q: %w", c.dir.PolicyLoaded(), fs.ErrNotExist),
			"policy-load writes it; --policy off makes a node without NetworkPolicy")
	}
	return c.policy != "off" && there, nil
}

// Plan reads every input before it plans a thing: while one is missing or broken, what is there stays.
func (c *conf) Plan(context.Context) ([]plan.Op, error) {
	lease, err := need[state.Lease](c.dir.Lease(), "subnet-lease")
	if err != nil {
		return nil, err
	}
	link, err := need[state.Link](c.dir.Link(), "the backend's setup tool, such as vxlan-setup,")
	if err != nil {
		return nil, err
	}
	if _, err := need[state.Routes](c.dir.Routes(), "route-sync"); err != nil {
		return nil, err
	}
	list, err := loadCNIConf(c.cniConf)
	if err != nil {
		return nil, err
	}
	env := envOf(lease, link)
	dir, err := filepath.Abs(c.runDir) // the runtime starts the plugin somewhere else
	if err != nil {
		return nil, err
	}
	files, err := absolute(c.files())
	if err != nil {
		return nil, err
	}
	policy, err := c.polices()
	if err != nil {
		return nil, err
	}
	given, err := list.convert(state.Dir(dir), files, env, policy)
	if err != nil {
		return nil, err
	}
	if given != "" && c.fresh("subnetFile "+given) {
		c.log.Warn("subnetFile is none of the files that are written here: the plugin reads the one in the run directory",
			"path", c.cniConf, "subnetFile", given)
	}
	data, err := list.render()
	if err != nil {
		return nil, err
	}
	if !c.takeOver {
		c.warn(list)
	}
	stale, err := c.staleOps(env)
	if err != nil {
		return nil, err
	}
	adopt, err := c.adoptOps(list)
	if err != nil {
		return nil, err
	}
	ops := append(adopt, confOps(c.files(), env.render(), stale, c.conflist, data)...)
	if c.forget {
		left, err := c.asideFiles()
		if err != nil {
			return nil, err
		}
		for _, path := range left {
			ops = append(ops, state.RemoveOp(path+aside))
		}
	}
	if !c.takeOver {
		return ops, nil
	}
	aside, err := c.asideOps(list)
	return append(ops, aside...), err
}

// need loads another program's file; a missing one is to be waited for.
func need[T any](path, producer string) (T, error) {
	v, err := state.Load[T](path)
	if errors.Is(err, fs.ErrNotExist) {
		err = exit.WithHint(exit.Errorf(exit.TryAgain, "read %q: %w", path, fs.ErrNotExist), "%s writes it", producer)
	}
	return v, err
}

// files are the places of subnet.env.
func (c *conf) files() []string {
	if c.subnetEnv == "" || c.subnetEnv == c.dir.SubnetEnv() {
		return []string{c.dir.SubnetEnv()}
	}
	return []string{c.dir.SubnetEnv(), c.subnetEnv}
}

func absolute(paths []string) ([]string, error) {
	var all []string
	for _, p := range paths {
		p, err := filepath.Abs(p)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// Down removes the conflist first, so that no pod is sent here any more, and the bridge last: only
// one that cni-bridge made, and that no pod is attached to.
func (c *conf) Down(context.Context) ([]plan.Op, error) {
	if c.handBack {
		return c.handBackOps()
	}
	var ops []plan.Op
	for _, path := range append([]string{c.conflist}, c.files()...) {
		if op := state.RemoveOp(path); op != nil {
			ops = append(ops, op)
		}
	}
	bridge, err := c.idleBridge()
	if err != nil || bridge == "" {
		return ops, err
	}
	return append(ops, plan.Func{Text: "ip link del " + bridge, Run: func(context.Context) error {
		s, err := nl.OpenSocket()
		if err != nil {
			return err
		}
		return errors.Join(s.Do(nl.DeleteLink(bridge)), s.Close())
	}}), nil
}

// idleBridge is the name of the bridge to remove, or empty.
func (c *conf) idleBridge() (string, error) {
	s, err := nl.OpenSocket()
	if err != nil {
		return "", err
	}
	defer s.Close() //nolint:errcheck // nothing is buffered
	name := bridgeOf(c.cniConf)
	br, ok, err := s.Device(name)
	if err != nil || !ok || br.Kind != "bridge" || br.Alias != nl.Mark {
		return "", err
	}
	ports, err := s.Ports(br.Index)
	if err != nil {
		return "", err
	}
	if len(ports) > 0 {
		c.log.Warn("the bridge stays: pods are attached", "dev", name, "pods", len(ports))
		return "", nil
	}
	return name, nil
}

// bridgeOf is the bridge that a cni-conf.json names; the default where it cannot be read.
func bridgeOf(cniConf string) string {
	list, err := loadCNIConf(cniConf)
	if err != nil {
		return defaultBridge
	}
	for _, p := range list.plugins() {
		if d, ok := p["delegate"].(map[string]any); ok && ours(p) {
			if name, ok := d["bridge"].(string); ok && name != "" {
				return name
			}
		}
	}
	return defaultBridge
}

// warn tells of what will make the runtime fail although every file is right.
func (c *conf) warn(list conflist) {
	if list.builtIn && c.fresh(c.cniConf) {
		c.log.Info("there is no such file: flannel's default configuration is used", "path", c.cniConf)
	}
	for _, p := range list.plugins() {
		name, _ := p["type"].(string)
		if path := filepath.Join(c.binDir, name); !exists(path) && c.fresh(path) {
			c.log.Warn("the configuration names a plugin that is not installed", "path", path)
		}
	}
	entries, _ := os.ReadDir(filepath.Dir(c.conflist)) // made by the write where it is missing
	for _, e := range entries {
		known := slices.Contains([]string{".conf", ".conflist", ".json"}, filepath.Ext(e.Name()))
		path := filepath.Join(filepath.Dir(c.conflist), e.Name())
		if known && e.Name() < filepath.Base(c.conflist) && c.fresh(path) {
			c.log.Warn("the runtime takes the first configuration by name, which is another one", "path", path)
		}
	}
}

// fresh says whether there has been no word of the path yet.
func (c *conf) fresh(path string) bool {
	if slices.Contains(c.told, path) {
		return false
	}
	c.told = append(c.told, path)
	return true
}
