package main

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
)

func convert(text string) (string, error) {
	c, err := parseCNIConf([]byte(text))
	c.path = "cni-conf.json"
	if err = c.name(err); err != nil {
		return "", err
	}
	files := []string{"/run/towpath/subnet.env", "/run/flannel/subnet.env"}
	if _, err := c.convert("/run/towpath", files, envOf(lease("10.244.1.0/24", ""), state.Link{MTU: 1450}), false); err != nil {
		return "", err
	}
	data, err := c.render()
	return string(data), err
}

// TestConflistKeepsKeys: what is not ours is kept as it is, numbers too; a second pass changes nothing.
func TestConflistKeepsKeys(t *testing.T) {
	out, err := convert(`{"name":"n","cniVersion":"1.1.0","disableGC":true,"plugins":[
		{"type":"flannel","delegate":{"type":"macvlan","master":"eth0"},"dataDir":"/var/lib/x","ipam":{"routes":[]},"x":1e400},
		{"type":"bandwidth","ingressRate":12345678901234567890}]}`)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"disableGC": true`, `"cniVersion": "1.1.0"`, `"master": "eth0"`, `"dataDir": "/var/lib/x"`, `"x": 1e400`, `12345678901234567890`,
		`"type": "cni-bridge"`, `"subnetFile": "/run/towpath/subnet.env"`, `"runDir": "/run/towpath"`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%s is missing:\n%s", want, out)
		}
	}
	if again, err := convert(out); err != nil || again != out {
		t.Errorf("a second pass changes it: %v\n%s", err, again)
	}
}

// TestConflistSubnetFile: a file that conf writes is kept, another is overruled, and told of.
func TestConflistSubnetFile(t *testing.T) {
	for given, want := range map[string]string{
		`"/run/flannel/subnet.env"`: "/run/flannel/subnet.env",
		`"/run/towpath/subnet.env"`: "/run/towpath/subnet.env",
		`"/etc/subnet.env"`:         "/run/towpath/subnet.env",
		`"subnet.env"`:              "/run/towpath/subnet.env",
		`7`:                         "/run/towpath/subnet.env",
	} {
		c, err := parseCNIConf([]byte(`{"name":"n","cniVersion":"1.0.0","plugins":[{"type":"flannel","subnetFile":` + given + `}]}`))
		if err != nil {
			t.Fatal(err)
		}
		files := []string{"/run/towpath/subnet.env", "/run/flannel/subnet.env"}
		overruled, err := c.convert("/run/towpath", files, envOf(lease("10.244.1.0/24", ""), state.Link{MTU: 1450}), false)
		if got := c.plugins()[0]["subnetFile"]; err != nil || got != want || (overruled == "") != (strconv.Quote(want) == given) {
			t.Errorf("%s: %v, overruled %q, %v; want %s", given, got, overruled, err, want)
		}
	}
}

func TestConflistFaults(t *testing.T) {
	plugins := func(list string) string { return `{"name":"n","cniVersion":"0.3.1","plugins":` + list + `}` }
	for text, c := range map[string]struct {
		code  exit.Code
		words string
	}{
		`{`:                                   {65, "truncated"},
		`[]`:                                  {65, "array where"},
		`null`:                                {65, "no JSON object"},
		`{"name":7}`:                          {65, `key "name"`},
		`{"cniVersion":"0.3.1","plugins":[]}`: {78, `key "name": missing`},
		`{"name":"a/b","cniVersion":"0.3.1"}`: {78, `key "name"`},
		`{"name":"n"}`:                        {78, `key "cniVersion": missing`},
		`{"name":"n","cniVersion":"0.2.0"}`:   {78, `key "cniVersion": "0.2.0"`},
		`{"name":"n","cniVersion":"0.3.1"}`:   {78, `key "plugins": missing`},
		`{"name":"n","cniVersion":"0.3.1","type":"flannel"}`: {78, "one plugin, not a list"},
		plugins(`{}`):                                         {65, `key "plugins"`},
		plugins(`["flannel"]`):                                {65, `key "plugins": each`},
		plugins(`[{"type":1}]`):                               {65, `key "plugins[0].type"`},
		plugins(`[{"type":"flannel","delegate":[]}]`):         {65, `key "plugins[0].delegate"`},
		plugins(`[{"type":"flannel"},{"type":"cni-bridge"}]`): {78, "2 of type"},
		plugins(`[{"type":"portmap"},{"type":"flannel","delegate":{"mtu":1}}]`):        {78, `key "plugins[1].delegate.mtu"`},
		plugins(`[{"type":"flannel","ipam":{"ranges":[[{"subnet":"10.9.0.0/24"}]]}}]`): {78, `key "plugins[0].ipam.ranges[0][0]"`},
	} {
		_, err := convert(text)
		if exit.Of(err) != c.code || !strings.Contains(err.Error(), c.words) || !strings.Contains(err.Error(), `"cni-conf.json"`) {
			t.Errorf("%s: %d %v\nwant %d …%s…", text, exit.Of(err), err, c.code, c.words)
		}
	}
}

func TestBuiltInIsSound(t *testing.T) {
	c, err := loadCNIConf(t.TempDir() + "/none.json")
	if err != nil || !c.builtIn || len(c.plugins()) != 2 {
		t.Errorf("%+v %v", c, err)
	}
}

func FuzzCNIConf(f *testing.F) {
	for _, seed := range []string{builtIn, `{"plugins":[null]}`, `{"name":"n","cniVersion":"0.3.1","plugins":[{"type":"flannel","delegate":null}]}`, "[", "null"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		out, err := convert(text)
		if err != nil {
			if code := exit.Of(err); code != exit.BadInput && code != exit.BadConfig {
				t.Errorf("exit status %d: %v", code, err)
			}
			return
		}
		if again, err := convert(out); err != nil || again != out {
			t.Errorf("a second pass changes it: %v\n%s\n%s", err, out, again)
		}
	})
}

// FuzzNetConf: no configuration brings the plugin down, and what it refuses has a code.
func FuzzNetConf(f *testing.F) {
	for _, seed := range []string{
		`{"name":"n","delegate":{"hairpinMode":true},"ipam":{"ranges":[[{"rangeStart":"10.244.1.9"}]]}}`, `{"runtimeConfig":{"ips":["x"]}}`,
		`{"delegate":{"type":"macvlan"}}`, `{"args":{"cni":{"ips":[1]}}}`, `null`, `{"cni.dev/valid-attachments":null}`,
	} {
		f.Add([]byte(seed), "IP=10.244.1.5;MAC=x")
	}
	f.Fuzz(func(t *testing.T, data []byte, args string) {
		parsed, err := parseArgs(args)
		if err != nil {
			parsed = nil
		}
		c, err := parseNetConf(data, parsed)
		if err != nil {
			var key *state.KeyError
			if errors.As(cniError(err), &key) {
				t.Errorf("without a code: %v", err)
			}
			return
		}
		env := envOf(lease("10.244.1.0/24", "fd00:10:0:1::/64"), state.Link{MTU: 1450})
		sets, err := spanSets(env, c.ipam.Ranges)
		if err != nil {
			return
		}
		_, _ = askedAddrs(c.podIPs, sets)
		if _, err := delegateConf(&call{conf: c}, env); err != nil {
			t.Error(err)
		}
	})
}
