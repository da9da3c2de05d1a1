package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
)

// A delegate is another CNI plugin that does the work with this node's subnet, as flannel's plugin
// hands over to it. What it was given is kept in dataDir/CONTAINER:IFNAME until its DEL has succeeded.
// (The specification's own invoke package is not used: it links OpenTelemetry, and that net/http.)

// delegateConf is the configuration for the delegate, key by key as flannel's plugin makes it.
func delegateConf(c *call, env subnetEnv) ([]byte, error) {
	conf := map[string]any{"ipMasq": !env.IPMasq, "mtu": env.MTU}
	for k, v := range c.conf.Delegate {
		conf[k] = v
	}
	conf["name"] = c.conf.Name
	conf["cniVersion"] = c.conf.CNIVersion
	if c.conf.RuntimeConfig != nil {
		conf["runtimeConfig"] = c.conf.RuntimeConfig
	}
	ipam := map[string]any{"type": "host-local"}
	for k, v := range c.conf.IPAM {
		ipam[k] = v
	}
	var ranges []any
	for _, f := range state.Families {
		if env.Subnet.Has(f) {
			ranges = append(ranges, []any{map[string]any{"subnet": env.Subnet.Of(f).String()}})
		}
	}
	routes, _ := ipam["routes"].([]any)
	for _, n := range env.networks() {
		routes = append(routes, map[string]any{"dst": n.String()})
	}
	ipam["ranges"], ipam["routes"] = ranges, routes
	conf["ipam"] = ipam
	return json.Marshal(conf)
}

func delegateAdd(c *call, env subnetEnv) error {
	conf, err := delegateConf(c, env)
	if err != nil {
		return err
	}
	if _, err := findPlugin(c.conf.bridge.Type); err != nil {
		return err
	}
	// Before the delegate runs, so that a DEL can undo what it did when this process dies.
	if _, err := state.WriteFile(c.statePath(), conf, 0o600); err != nil {
		return err
	}
	out, err := c.invoke("ADD", c.holder, conf)
	if err != nil {
		return err
	}
	raw, err := create.CreateFromBytes(withVersion(out, c.conf.CNIVersion))
	if err != nil {
		return fmt.Errorf("read result of delegate %q: %w", c.conf.bridge.Type, err)
	}
	result, err := current.NewResultFromResult(raw)
	if err != nil {
		return fmt.Errorf("read result of delegate %q: %w", c.conf.bridge.Type, err)
	}
	e := c.endpoint()
	for _, ip := range result.IPs {
		if p, ok := prefixOfNet(ip.Address); ok && !e.IP.Has(state.FamilyOf(p.Addr())) {
			e.IP.Set(state.FamilyOf(p.Addr()), p.Addr())
		}
	}
	if e.IP == (state.Pair[netip.Addr]{}) {
		return types.PrintResult(raw, c.conf.CNIVersion)
	}
	if _, err := state.Save(c.endpointPath(), e); err != nil {
		return err
	}
	if c.conf.Policy {
		if err := c.awaitPolicy(); err != nil {
			return errors.Join(err, c.delegateUndo(conf))
		}
	}
	return types.PrintResult(raw, c.conf.CNIVersion)
}

// delegateUndo takes back an ADD that no policy came for. What the delegate does not undo keeps its record,
// for DEL or GC.
func (c *call) delegateUndo(conf []byte) error {
	if _, err := c.invoke("DEL", c.holder, conf); err != nil {
		return err
	}
	_, e1 := state.Remove(c.endpointPath())
	_, e2 := state.Remove(c.statePath())
	return errors.Join(e1, e2)
}

// withVersion gives a result without a cniVersion that of the configuration, as the specification asks.
func withVersion(result []byte, v string) []byte {
	var object map[string]any
	if json.Unmarshal(result, &object) != nil || object["cniVersion"] != nil {
		return result
	}
	object["cniVersion"] = v
	out, err := json.Marshal(object)
	if err != nil {
		return result
	}
	return out
}

// delegateDel undoes a delegate's work where there is a record of one; the record goes when that has
// succeeded, so that a DEL that failed can be repeated.
func delegateDel(c *call) error {
	path := c.statePath()
	conf, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		path = filepath.Join(c.conf.DataDir, c.Container) // flannel's plugin's
		conf, err = os.ReadFile(path)
		if err == nil && typeOf(conf) == "bridge" {
			return nil // ours to undo, with host-local's reservation
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read delegate's record: %w", err)
	}
	if typeOf(conf) == "" {
		_, err := state.Remove(path) // torn by a power failure: its container is gone with the boot
		return err
	}
	if c.conf.PrevResult != nil {
		conf = withKey(conf, "prevResult", c.conf.PrevResult)
	}
	if _, err := c.invoke("DEL", c.holder, conf); err != nil {
		return err
	}
	_, err = state.Remove(path)
	return err
}

// forgetFlannel removes the record that flannel's plugin made of a bridge that has been undone here.
func forgetFlannel(c *call) error {
	path := filepath.Join(c.conf.DataDir, c.Container)
	if conf, err := os.ReadFile(path); err != nil || typeOf(conf) != "bridge" {
		return nil //nolint:nilerr // nothing of flannel's here
	}
	_, err := state.Remove(path)
	return err
}

func delegateCheck(c *call) error {
	conf, err := os.ReadFile(c.statePath())
	if err != nil {
		return damage("the record of delegate %q is missing: %v", c.conf.bridge.Type, err)
	}
	if c.conf.PrevResult != nil {
		conf = withKey(conf, "prevResult", c.conf.PrevResult)
	}
	_, err = c.invoke("CHECK", c.holder, conf)
	return err
}

func delegateStatus(c *call, env subnetEnv) error {
	conf, err := delegateConf(c, env)
	if err != nil {
		return err
	}
	_, err = c.invoke("STATUS", holder{}, conf)
	return err
}

// delegateGC undoes delegates' work for attachments of this network that are not valid, and lets the
// delegate itself collect.
func delegateGC(c *call, valid map[holder]bool) error {
	err := state.Sweep(c.conf.DataDir)
	names, lerr := readNames(c.conf.DataDir)
	err = errors.Join(err, lerr)
	for _, name := range names {
		h, ok := holderOfFile(name)
		if !ok || strings.HasPrefix(name, ".") || valid[h] {
			continue
		}
		path := filepath.Join(c.conf.DataDir, name)
		conf, rerr := os.ReadFile(path)
		var head struct {
			Name string `json:"name"`
		}
		if rerr != nil || json.Unmarshal(conf, &head) != nil || head.Name != c.conf.Name {
			continue // of another network
		}
		if _, derr := c.invoke("DEL", h, conf); derr != nil {
			err = errors.Join(err, derr)
			continue
		}
		_, e1 := state.Remove(path)
		_, e2 := state.Remove(state.Dir(c.conf.RunDir).Endpoint(h.Container, h.Interface))
		err = errors.Join(err, e1, e2)
	}
	if c.conf.native() || err != nil {
		return err
	}
	env, err := c.subnet()
	if err != nil {
		return err
	}
	conf, err := delegateConf(c, env)
	if err != nil {
		return err
	}
	_, err = c.invoke("GC", holder{}, withKey(conf, validAttachments, c.conf.Valid))
	return err
}

func (c *call) statePath() string { return filepath.Join(c.conf.DataDir, c.file()) }

func typeOf(conf []byte) string {
	var head struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(conf, &head) != nil {
		return ""
	}
	return head.Type
}

func withKey(conf []byte, key string, value json.RawMessage) []byte {
	var object map[string]json.RawMessage
	if json.Unmarshal(conf, &object) != nil {
		return conf
	}
	object[key] = value
	out, err := json.Marshal(object)
	if err != nil {
		return conf
	}
	return out
}

// invoke runs the plugin that conf names, found in CNI_PATH, and returns its standard output.
func (c *call) invoke(command string, h holder, conf []byte) ([]byte, error) {
	name := typeOf(conf)
	path, err := findPlugin(name)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(context.Background(), path) // the runtime's time-out kills us both
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+command)
	if h != c.holder {
		cmd.Env = append(cmd.Env, "CNI_CONTAINERID="+h.Container, "CNI_IFNAME="+h.Interface, "CNI_NETNS=")
	}
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(conf), &out, os.Stderr
	runErr := cmd.Run()
	if runErr == nil {
		return out.Bytes(), nil
	}
	var said types.Error
	if json.Unmarshal(out.Bytes(), &said) == nil && said.Msg != "" {
		return nil, types.NewError(said.Code, fmt.Sprintf("delegate %q: %s", name, said.Msg), said.Details)
	}
	return nil, fmt.Errorf("delegate %q: %s: %w%s", name, command, runErr, said.Msg)
}

func findPlugin(name string) (string, error) {
	if name == "" || name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return "", &state.KeyError{Key: "delegate.type", Err: fmt.Errorf("%q is no name of a plugin", name)}
	}
	dirs := filepath.SplitList(os.Getenv("CNI_PATH"))
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", exit.WithHint(types.NewError(types.ErrPluginNotAvailable, fmt.Sprintf("delegate %q is not in %s", name, strings.Join(dirs, ":")), ""),
		"install the plugin there")
}
