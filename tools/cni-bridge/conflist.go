package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/containernetworking/cni/pkg/utils"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
)

// builtIn is the meaning of the cni-conf.json in flannel's manifests, for a node without one.
const builtIn = `{
  "cniVersion": "0.3.1",
  "name": "cbr0",
  "plugins": [
    {"type": "flannel", "delegate": {"hairpinMode": true, "isDefaultGateway": true}},
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}`

// conflist is a list of CNI plugins as the administrator wrote it: every key is kept.
type conflist struct {
	path    string
	object  map[string]any
	builtIn bool
}

// loadCNIConf reads and checks cni-conf.json. A fault of syntax or type ends with 65, one of meaning
// with 78; both name the file and the key.
func loadCNIConf(path string) (conflist, error) {
	data, err := state.ReadFile(path, state.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		c, err := parseCNIConf([]byte(builtIn))
		c.builtIn = true
		return c, err
	}
	if err != nil {
		return conflist{}, err
	}
	c, err := parseCNIConf(data)
	c.path = path
	return c, c.name(err)
}

// name adds the file to an error of a key.
func (c conflist) name(err error) error {
	var key *state.KeyError
	var done *state.Error
	switch {
	case err == nil || errors.As(err, &done):
		return err
	case errors.As(err, &key):
		return &state.Error{Path: c.path, Key: key.Key, Err: key.Err, Code: exit.Of(key.Err)}
	}
	return &state.Error{Path: c.path, Err: err}
}

// wrong is a fault of meaning.
func wrong(key, format string, args ...any) error {
	return &state.KeyError{Key: key, Err: exit.Errorf(exit.BadConfig, format, args...)}
}

// malformed is a fault of type.
func malformed(key, format string, args ...any) error {
	return &state.KeyError{Key: key, Err: exit.Errorf(exit.BadInput, format, args...)}
}

func parseCNIConf(data []byte) (conflist, error) {
	var c conflist
	var list struct {
		CNIVersion string            `json:"cniVersion"`
		Name       string            `json:"name"`
		Plugins    []json.RawMessage `json:"plugins"`
	}
	if err := state.Decode(data, &list); err != nil {
		var key *state.KeyError
		if errors.As(err, &key) {
			return c, malformed(key.Key, "%w", key.Err)
		}
		return c, err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(&c.object); err != nil {
		return c, err
	}
	switch {
	case c.object == nil:
		return c, errors.New("no JSON object")
	case list.Name == "":
		return c, wrong("name", "missing: the network needs a name, such as cbr0")
	case utils.ValidateNetworkName(list.Name) != nil:
		return c, wrong("name", "%q: %s", list.Name, utils.ValidateNetworkName(list.Name).Details)
	case list.CNIVersion == "":
		return c, wrong("cniVersion", "missing: use one of %s", supportedText())
	case !supported(list.CNIVersion):
		return c, wrong("cniVersion", "%q: use one of %s", list.CNIVersion, supportedText())
	case len(list.Plugins) == 0 && c.object["type"] != nil:
		return c, exit.WithHint(wrong("plugins", "missing: this is one plugin, not a list"), "write {\"cniVersion\": …, \"name\": …, \"plugins\": [ … ]} around it")
	case len(list.Plugins) == 0:
		return c, wrong("plugins", "missing or empty")
	}
	return c, c.check(len(list.Plugins))
}

// check looks at each plugin, and for the one that is ours.
func (c conflist) check(n int) error {
	count := 0
	if len(c.plugins()) != n {
		return malformed("plugins", "each must be a JSON object")
	}
	for i, p := range c.plugins() {
		key := fmt.Sprintf("plugins[%d].", i)
		t, ok := p["type"].(string)
		if !ok || t == "" {
			return malformed(key+"type", "missing, or no text")
		}
		if !ours(p) {
			continue
		}
		count++
		for _, part := range []string{"delegate", "ipam"} {
			if _, isObject := p[part].(map[string]any); p[part] != nil && !isObject {
				return malformed(key+part, "is no JSON object")
			}
		}
	}
	if count != 1 {
		return wrong("plugins", "%d of type flannel or cni-bridge, 1 is needed", count)
	}
	return nil
}

// plugins are the objects of the list; what is no object is left out.
func (c conflist) plugins() []map[string]any {
	raw, _ := c.object["plugins"].([]any)
	var plugins []map[string]any
	for _, r := range raw {
		if p, ok := r.(map[string]any); ok {
			plugins = append(plugins, p)
		}
	}
	return plugins
}

// convert puts cni-bridge in the place of flannel's plugin, and tells it where this node's files are.
// A subnetFile that the administrator gave is kept when it is one of files, which are written here, and
// returned when it is not, because nobody would keep that one up to date. What the plugin would refuse
// for each pod is refused here. policy is set as given, whatever the administrator wrote.
func (c conflist) convert(dir state.Dir, files []string, env subnetEnv, policy bool) (overruled string, err error) {
	for i, p := range c.plugins() {
		if !ours(p) {
			continue
		}
		p["type"] = "cni-bridge"
		if given, ok := p["subnetFile"]; !ok {
			p["subnetFile"] = dir.SubnetEnv()
		} else if path, _ := given.(string); !slices.Contains(files, path) {
			overruled = fmt.Sprint(given)
			p["subnetFile"] = dir.SubnetEnv()
		}
		p["runDir"] = string(dir)
		delete(p, "policy")
		if policy {
			p["policy"] = true
		}
		if err := c.tryPlugin(p, env); err != nil {
			var key *state.KeyError
			if errors.As(err, &key) {
				return "", c.name(wrong(fmt.Sprintf("plugins[%d].%s", i, key.Key), "%w", key.Err))
			}
			return "", c.name(wrong(fmt.Sprintf("plugins[%d]", i), "%w", err))
		}
	}
	return overruled, nil
}

// tryPlugin reads the plugin's object as the plugin will.
func (c conflist) tryPlugin(p map[string]any, env subnetEnv) error {
	n := newNetConf()
	data, err := json.Marshal(p)
	if err == nil {
		err = state.Decode(data, n)
	}
	if err == nil {
		err = n.check(nil)
	}
	if err == nil {
		err = n.fits(env)
	}
	if err == nil && n.native() {
		_, err = spanSets(env, n.ipam.Ranges)
	}
	return err
}

// render is the canonical text.
func (c conflist) render() ([]byte, error) { return state.Marshal(c.object) }
