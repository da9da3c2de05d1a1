package state

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/exit"
)

func lease() Lease {
	return Lease{
		Version: Version, Node: "worker01",
		Network:  Pair[netip.Prefix]{IPv4: netip.MustParsePrefix("10.244.0.0/16")},
		Subnet:   Pair[netip.Prefix]{IPv4: netip.MustParsePrefix("10.244.1.0/24")},
		PublicIP: Pair[netip.Addr]{IPv4: netip.MustParseAddr("192.168.100.11")},
		Interface: Interface{
			Name: "eth0", MTU: 1500,
			IP: Pair[netip.Addr]{IPv4: netip.MustParseAddr("192.168.100.11")},
		},
		Backend: Backend{Type: "vxlan", VNI: 1, Port: 8472},
		IPMasq:  true,
	}
}

const leaseText = `{
  "version": 1,
  "backend": {
    "port": 8472,
    "type": "vxlan",
    "vni": 1
  },
  "interface": {
    "ip": {
      "ipv4": "192.168.100.11"
    },
    "mtu": 1500,
    "name": "eth0"
  },
  "ipMasq": true,
  "network": {
    "ipv4": "10.244.0.0/16"
  },
  "node": "worker01",
  "publicIP": {
    "ipv4": "192.168.100.11"
  },
  "subnet": {
    "ipv4": "10.244.1.0/24"
  }
}
`

func TestSaveIsCanonicalAndLoadReadsItBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "lease.json")
	if changed, err := Save(path, lease()); err != nil || !changed {
		t.Fatalf("first save: changed %v, %v", changed, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(leaseText, string(text)); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
	before, _ := os.Stat(path)
	if changed, err := Save(path, lease()); err != nil || changed {
		t.Errorf("same bytes again: changed %v, %v", changed, err)
	}
	if after, _ := os.Stat(path); !os.SameFile(before, after) {
		t.Error("same bytes made a new file")
	}
	got, err := Load[Lease](path)
	if err != nil {
		t.Fatal(err)
	}
	equal := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	if diff := cmp.Diff(lease(), got, equal, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

func TestLoadRefuses(t *testing.T) {
	edit := func(old, with string) string {
		if !strings.Contains(leaseText, old) {
			t.Fatalf("no %q in the text", old)
		}
		return strings.Replace(leaseText, old, with, 1)
	}
	for name, c := range map[string]struct{ text, key, says string }{
		"empty":            {"", "", "empty file"},
		"blank":            {" \n", "", "empty file"},
		"truncated":        {leaseText[:len(leaseText)-20], "", "truncated"},
		"no JSON":          {"FLANNEL_SUBNET=1\n", "", "line 1, column 1"},
		"second document":  {leaseText + "{}", "", "line 27, column 1"},
		"array":            {"[]", "", "array where"},
		"huge":             {strings.Repeat(" ", MaxSize+1) + leaseText, "", "larger than 1048576 bytes"},
		"no version":       {edit(`"version": 1,`, ``), "version", "missing"},
		"newer version":    {edit(`"version": 1,`, `"version": 2,`), "version", "newer"},
		"version zero":     {edit(`"version": 1,`, `"version": 0,`), "version", "0 is not a version"},
		"version a string": {edit(`"version": 1,`, `"version": "1",`), "version", "string where int"},
		"bad prefix":       {edit(`10.244.1.0/24`, `10.244.1.0/33`), "subnet.ipv4", "prefix length out of range"},
		"bad address":      {edit("\"publicIP\": {\n    \"ipv4\": \"192.168.100.11\"", "\"publicIP\": {\n    \"ipv4\": \"192.168.100\""), "publicIP.ipv4", "192.168.100"},
		"host bits":        {edit(`10.244.1.0/24`, `10.244.1.7/24`), "subnet.ipv4", "write 10.244.1.0/24"},
		"other family":     {edit(`10.244.1.0/24`, `fd00::/64`), "subnet.ipv4", "other family"},
		"wrong type":       {edit(`"mtu": 1500`, `"mtu": "1500"`), "interface.mtu", "string where int"},
		"no MTU":           {edit(`"mtu": 1500`, `"mtu": 0`), "interface.mtu", "0 is no MTU"},
		"no node":          {edit(`"node": "worker01"`, `"knot": "worker01"`), "node", "missing"},
		"node is a path":   {edit(`worker01`, `../worker01`), "node", "no node name"},
		"no backend":       {edit(`"type": "vxlan"`, `"tape": "vxlan"`), "backend.type", "missing"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "lease.json")
			if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := Load[Lease](path)
			if err == nil {
				t.Fatal("accepted")
			}
			if code := exit.Of(err); code != exit.BadInput {
				t.Errorf("exit status %d: %v", code, err)
			}
			var e *Error
			if !errors.As(err, &e) || e.Path != path || e.Key != c.key {
				t.Errorf("error does not name file and key %q: %v", c.key, err)
			}
			if !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %q does not say %q", err, c.says)
			}
		})
	}
}

func TestLoadOfWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	_, err := Load[Lease](filepath.Join(dir, "lease.json"))
	if !errors.Is(err, fs.ErrNotExist) || exit.Of(err) != exit.TryAgain {
		t.Errorf("missing file: %v, exit status %d", err, exit.Of(err))
	}
	if _, err = Load[Lease](dir); exit.Of(err) != exit.BadInput || !strings.Contains(err.Error(), "regular") {
		t.Errorf("directory: %v", err)
	}
}

func TestUnknownFieldsAreIgnored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lease.json")
	text := strings.Replace(leaseText, `"version": 1,`, `"version": 1, "later": {"a": [1]},`, 1)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load[Lease](path); err != nil {
		t.Error(err)
	}
}

func TestRegistry(t *testing.T) {
	dir := Dir("/run/towpath")
	paths := []string{
		dir.Lease(), dir.Peer("NODE"), dir.PeersSynced(), dir.Backend("vxlan"), dir.Backend("host-gw"), dir.Link(), dir.Routes(),
		dir.SubnetEnv(), dir.Endpoint("CONTAINER", "IFNAME"), dir.Stage("STAGE"), dir.Lock("PROGRAM"),
	}
	known := map[string]bool{}
	for _, f := range Registry {
		if len(f.Producers) == 0 || len(f.Consumers) == 0 || f.Holds == "" {
			t.Errorf("%s: producer, consumer or content is missing", f.Name)
		}
		if (f.Version > 0) != (f.Schema != nil) {
			t.Errorf("%s: version %d and schema %T do not go together", f.Name, f.Version, f.Schema)
		}
		if known[f.Name] {
			t.Errorf("%s: listed twice", f.Name)
		}
		known[f.Name] = true
	}
	for _, p := range paths {
		if !known[strings.TrimPrefix(p, "/run/towpath/")] {
			t.Errorf("%s is not in the registry", p)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(leaseText))
	f.Add([]byte(`{"version":1,"subnet":{"ipv4":"10.0.0.0/99"}}`))
	f.Add([]byte(`{"VERSION":1,"subnet":[],"backend":{"raw":`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var l Lease
		if err := Decode(data, &l); err != nil {
			return
		}
		text, err := Marshal(l)
		if err != nil {
			return // raw JSON that does not marshal
		}
		var again Lease
		if err := Decode(text, &again); err != nil {
			t.Fatalf("own text does not decode: %v\n%s", err, text)
		}
	})
}
