package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/keep"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
)

// aside ends the name of a configuration that was moved aside: no runtime reads it, and moving back finds it.
const aside = ".before-towpath"

// earlier are the plugins of the networks that can be taken over.
var earlier = []string{"flannel", "calico"}

// earlierConf is a network's configuration that the runtime prefers to ours.
type earlierConf struct {
	path    string
	name    string   // of the network
	plugins []string // types
}

// earlierConfs lists those beside the conflist that would be chosen before it and are of a network to take over. Others, such
// as that of a plugin that calls further networks, are nobody's to move.
func earlierConfs(conflist string) ([]earlierConf, error) {
	names, err := readNames(filepath.Dir(conflist))
	slices.Sort(names)
	var all []earlierConf
	for _, name := range names {
		if !slices.Contains([]string{".conf", ".conflist", ".json"}, filepath.Ext(name)) || name >= filepath.Base(conflist) {
			continue
		}
		path := filepath.Join(filepath.Dir(conflist), name)
		data, rerr := state.ReadFile(path, state.MaxSize)
		if rerr != nil {
			err = errors.Join(err, skipMissing(rerr))
			continue
		}
		if c, ok := parseEarlier(data); ok {
			c.path = path
			all = append(all, c)
		}
	}
	return all, err
}

// parseEarlier reads a list of plugins or a single one; ok says whether a network to take over is in it.
func parseEarlier(data []byte) (c earlierConf, ok bool) {
	var list struct {
		Name    string
		Type    string
		Plugins []struct{ Type string }
	}
	if json.Unmarshal(data, &list) != nil {
		return c, false
	}
	c.name = list.Name
	for _, p := range append(list.Plugins, struct{ Type string }{list.Type}) {
		c.plugins = append(c.plugins, p.Type)
		ok = ok || slices.Contains(earlier, p.Type)
	}
	return c, ok
}

// asideOps moves the earlier network's configurations aside, once ours is written: the runtime has one at any time.
func (c *conf) asideOps(list conflist) ([]plan.Op, error) {
	confs, err := earlierConfs(c.conflist)
	if err != nil {
		return nil, err
	}
	var ops []plan.Op
	for _, e := range confs {
		ours, _ := list.object["name"].(string)
		if slices.Contains(e.plugins, "flannel") && e.name != ours {
			return nil, exit.WithHint(exit.Errorf(exit.BadConfig, "take over %q: its network is %q, ours %q: running pods' addresses are kept under that name",
				e.path, e.name, ours), "set \"name\": %q in %s", e.name, c.cniConf)
		}
		ops = append(ops, plan.Func{Text: fmt.Sprintf("mv %s %s", e.path, e.path+aside), Run: func(context.Context) error {
			c.moved = true
			return os.Rename(e.path, e.path+aside)
		}})
	}
	return ops, nil
}

// trail is how long after the change of configuration pods may still come from the earlier plugin: those whose ADD was under way.
const (
	trail     = 5 * time.Second
	trailStep = 250 * time.Millisecond
)

// follow adopts the last pods of the earlier plugin.
func (c *conf) follow(ctx context.Context, show func(plan.Op)) error {
	tick := time.NewTicker(trailStep)
	defer tick.Stop()
	for end := time.Now().Add(trail); time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := keep.Settle(ctx, c.adopt, show); err != nil {
			return err
		}
	}
	return nil
}

// asideFiles are the configurations that were moved aside, by the names that they had.
func (c *conf) asideFiles() ([]string, error) {
	names, err := readNames(filepath.Dir(c.conflist))
	slices.Sort(names)
	var paths []string
	for _, name := range names {
		if was, ok := strings.CutSuffix(name, aside); ok {
			paths = append(paths, filepath.Join(filepath.Dir(c.conflist), was))
		}
	}
	return paths, err
}

// handBackOps puts the configurations back that were moved aside, and then removes ours. Where the earlier network has written
// its own again, that one is the newer. subnet.env at flannel's place is flannel's from now on.
func (c *conf) handBackOps() ([]plan.Op, error) {
	files, err := c.asideFiles()
	if err != nil {
		return nil, err
	}
	ops, err := c.recordOps()
	if err != nil {
		return nil, err
	}
	records := len(ops)
	for _, path := range files {
		switch {
		case exists(path):
			ops = append(ops, state.RemoveOp(path+aside))
		default:
			ops = append(ops, plan.Func{Text: fmt.Sprintf("mv %s %s", path+aside, path), Run: func(context.Context) error {
				return os.Rename(path+aside, path)
			}})
		}
	}
	if len(ops) == records {
		if there, err := earlierConfs(c.conflist); err != nil || len(there) == 0 && exists(c.conflist) {
			return nil, errors.Join(err, exit.WithHint(
				exit.Errorf(exit.TryAgain, "hand back: no other configuration is in %q", filepath.Dir(c.conflist)),
				"start flanneld on this node first, whose pod writes one; down without --hand-back removes ours all the same"))
		}
	}
	for _, path := range []string{c.conflist, c.dir.SubnetEnv()} {
		if op := state.RemoveOp(path); op != nil {
			ops = append(ops, op)
		}
	}
	return ops, nil
}

// recordOps writes, for each pod that cni-bridge attached, the record by which flannel's plugin knows at DEL what to undo: without
// one it does nothing, and the address is never free again.
func (c *conf) recordOps() ([]plan.Op, error) {
	list, err := loadCNIConf(c.cniConf)
	if err != nil {
		return nil, err
	}
	n, err := list.own()
	if err != nil || !n.native() {
		return nil, err // what other plugins are to undo is on record
	}
	env, err := loadSubnetEnv(c.dir.SubnetEnv())
	if err != nil {
		return nil, skipMissing(err)
	}
	n.CNIVersion, _ = list.object["cniVersion"].(string)
	conf, err := delegateConf(&call{conf: n}, env)
	if err != nil {
		return nil, err
	}
	conf = withKey(conf, "type", json.RawMessage(`"bridge"`))
	s, err := openStore(n.ipam.DataDir, n.Name)
	if err != nil {
		return nil, err
	}
	var ops []plan.Op
	seen := map[string]bool{}
	err = s.reservations(func(_ netip.Addr, h holder) {
		path := filepath.Join(n.DataDir, h.Container)
		if seen[path] || exists(path) || exists(path+":"+h.Interface) {
			return
		}
		seen[path] = true
		ops = append(ops, state.WriteBytesOp(path, conf))
	})
	slices.SortFunc(ops, func(a, b plan.Op) int { return strings.Compare(a.String(), b.String()) })
	return ops, err
}
