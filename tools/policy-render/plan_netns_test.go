//go:build netns

package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/lib/state"
)

// loaded writes policy.loaded.json as policy-load does after a load.
func (n *node) loaded() {
	n.t.Helper()
	text, err := os.ReadFile(n.dir.PolicyNFT())
	if err != nil {
		n.t.Fatal(err)
	}
	m, err := ruleset.ParseManifest(n.dir.Policy(), text)
	if err != nil {
		n.t.Fatal(err)
	}
	l := state.PolicyLoaded{Version: state.Version, Generation: m.Generation(), Endpoints: m.Endpoints}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		n.t.Fatal(err)
	}
	l.Boot = strings.TrimSpace(string(boot))
	n.host.Do(func() {
		var st syscall.Stat_t
		if err = syscall.Stat("/proc/thread-self/ns/net", &st); err == nil {
			l.Netns = st.Ino
			l.Kernel, err = nl.NFTGeneration()
		}
	})
	if err == nil {
		_, err = state.Save(n.dir.PolicyLoaded(), l)
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

// TestPlanSaysWhatChanges: with the kernel's generation as proof, without it, and after somebody else's change; what
// plan prints, typed in, leads to the ruleset that it was planned for.
func TestPlanSaysWhatChanges(t *testing.T) {
	n := newNode(t)
	n.objects = t.TempDir()
	objects := func(port int) {
		n.write(n.objects+"/o.yaml", podYAML("web", "u1", "10.244.1.2")+policyYAML("allow-web", fmt.Sprintf("{podSelector: {}, ingress: [{ports: [{port: %d}]}]}", port)))
	}
	objects(80)
	first := n.render("plan")
	for _, want := range []string{
		"nft 'add chain inet towpath-policy forward { type filter hook forward priority filter; policy accept; }'\n",
		`nft 'add rule inet towpath-policy pi-dev/allow-web tcp dport 80 counter accept comment "ingress[0]"'` + "\n",
		"write " + n.dir.PolicyNFT() + "\n",
	} {
		if !strings.Contains(first, want) {
			t.Errorf("the first plan lacks %q:\n%s", want, first)
		}
	}
	if out := n.host.Run("nft", "list", "ruleset"); out != "" {
		t.Errorf("plan changed the kernel:\n%s", out)
	}
	n.load()
	if out := n.render("plan"); out != "" {
		t.Errorf("nothing to do, by the listing:\n%s", out)
	}
	n.loaded()
	if out := n.render("plan"); out != "" {
		t.Errorf("nothing to do, by the generation:\n%s", out)
	}
	objects(81)
	change := `nft flush chain inet towpath-policy pi-dev/allow-web
nft 'add rule inet towpath-policy pi-dev/allow-web tcp dport 81 counter accept comment "ingress[0]"'
`
	if out := n.render("plan"); !strings.HasPrefix(out, change+"write ") {
		t.Errorf("by the generation:\n%s", out)
	}
	os.Remove(n.dir.PolicyLoaded())
	if out := n.render("plan"); !strings.HasPrefix(out, change+"write ") {
		t.Errorf("by the listing:\n%s", out)
	}
	objects(80)
	n.loaded()
	n.host.Run("nft", "add rule inet towpath-policy forward accept; add element inet towpath-policy ingress4 { 10.244.1.77 : accept }; add chain inet towpath-policy foreign")
	out := n.render("plan")
	want := `nft flush map inet towpath-policy ingress4
nft 'add element inet towpath-policy ingress4 { 10.244.1.2 comment "dev/web" : goto gi-`
	if !strings.HasPrefix(out, want) || !strings.Contains(out, "nft flush chain inet towpath-policy forward\n") || !strings.HasSuffix(out, "nft delete chain inet towpath-policy foreign\n") {
		t.Errorf("after somebody's change:\n%s", out)
	}
	n.host.Run("sh", "-c", out)
	n.loaded()
	os.Remove(n.dir.PolicyLoaded())
	if out := n.render("plan"); out != "" {
		t.Errorf("after the plan was typed in:\n%s", out)
	}
}
