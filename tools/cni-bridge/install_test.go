package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/plan"
)

// plugins writes programs, each a text, into a new directory.
func plugins(t *testing.T, texts map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range texts {
		put(t, filepath.Join(dir, name), text, 0o755)
	}
	return dir
}

func put(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// does runs a verb and returns the operations, without the directories.
func (i installation) does(t *testing.T, verb string) string {
	t.Helper()
	var out []string
	if err := i.run(t.Context(), verb, func(op plan.Op) { out = append(out, op.String()) }); err != nil {
		t.Fatalf("%s: %v", verb, err)
	}
	return strings.NewReplacer(i.from+"/", "", i.to+"/", "").Replace(strings.Join(out, "\n"))
}

func holds(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	have := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if e.Name() != recordName {
			have[e.Name()] = string(text)
		}
	}
	if fmt.Sprint(have) != fmt.Sprint(want) {
		t.Errorf("%s holds %q, want %q", dir, have, want)
	}
}

func TestInstall(t *testing.T) {
	to := filepath.Join(t.TempDir(), "opt", "cni", "bin")
	one := installation{from: plugins(t, map[string]string{"cni-bridge": "1", "portmap": "p1", "loopback": "l1"}), to: to}
	put(t, filepath.Join(one.from, "README"), "no program", 0o644)
	const first = "write .towpath.sha256\ninstall -m 755 cni-bridge cni-bridge\ninstall -m 755 loopback loopback\ninstall -m 755 portmap portmap"
	if got := one.does(t, "apply"); strings.ReplaceAll(got, one.from, "") != first {
		t.Errorf("apply did\n%s", got)
	}
	if got := one.does(t, "apply"); got != "" {
		t.Errorf("the second apply did\n%s", got)
	}
	holds(t, to, map[string]string{"cni-bridge": "1", "portmap": "p1", "loopback": "l1"})
	if sums, err := exec.Command("sh", "-c", "cd "+to+" && sha256sum -c "+recordName).CombinedOutput(); err != nil {
		t.Errorf("the record is not what sha256sum reads: %v\n%s", err, sums)
	}

	// What is there and somebody else's stays, newer or older: only cni-bridge bears our name.
	put(t, filepath.Join(to, "portmap"), "another's", 0o755)
	two := installation{from: plugins(t, map[string]string{"cni-bridge": "2", "portmap": "p2", "loopback": "l2"}), to: to}
	two.does(t, "apply")
	holds(t, to, map[string]string{"cni-bridge": "2", "portmap": "another's", "loopback": "l2"})
	if got := two.does(t, "plan"); got != "" {
		t.Errorf("plan after apply: %s", got)
	}
	two.replace = true
	two.does(t, "apply")
	holds(t, to, map[string]string{"cni-bridge": "2", "portmap": "p2", "loopback": "l2"})

	// A file with the bytes and without the mode is made a program.
	if err := os.Chmod(filepath.Join(to, "cni-bridge"), 0o644); err != nil {
		t.Fatal(err)
	}
	two.does(t, "apply")
	if info, err := os.Stat(filepath.Join(to, "cni-bridge")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info.Mode(), err)
	}

	// Only what is still as it was installed is removed.
	put(t, filepath.Join(to, "loopback"), "another's", 0o755)
	put(t, filepath.Join(to, "bridge"), "another's", 0o755)
	put(t, filepath.Join(to, ".portmap.7.tmp"), "half", 0o755)
	two.does(t, "down")
	holds(t, to, map[string]string{"loopback": "another's", "bridge": "another's"})
	if got := two.does(t, "down"); got != "" {
		t.Errorf("the second down did\n%s", got)
	}
	none := installation{to: filepath.Join(t.TempDir(), "none")}
	if got := none.does(t, "down"); got != "" {
		t.Errorf("down of nothing did %s", got)
	}
}

// TestInstallEqual: another's plugin that happens to be the same stays when towpath goes.
func TestInstallEqual(t *testing.T) {
	i := installation{from: plugins(t, map[string]string{"cni-bridge": "1", "portmap": "p"}), to: plugins(t, map[string]string{"portmap": "p"})}
	i.does(t, "apply")
	i.does(t, "down")
	holds(t, i.to, map[string]string{"portmap": "p"})
}

func TestInstallRefuses(t *testing.T) {
	empty := installation{from: t.TempDir(), to: t.TempDir()}
	var stdout, stderr bytes.Buffer
	for _, c := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{"install"}, 64, "--from DIR is missing"},
		{[]string{"install", "watch", "--from", "x"}, 64, `unknown verb "watch"`},
		{[]string{"install", "--from", empty.from, "--to", empty.to, "extra"}, 64, `no argument "extra"`},
		{[]string{"install", "--from", empty.from, "--to", empty.to}, 78, "no program cni-bridge in"},
		{[]string{"install", "--from", filepath.Join(empty.from, "none"), "--to", empty.to}, 78, "no such file"},
	} {
		stderr.Reset()
		if code := command(t.Context(), c.args, &stdout, &stderr); code != c.code || !strings.Contains(stderr.String(), c.text) {
			t.Errorf("%q: %d, %s", c.args, code, stderr.String())
		}
	}
	put(t, filepath.Join(empty.to, recordName), "nonsense\n", 0o644)
	stderr.Reset()
	if code := command(t.Context(), []string{"install", "down", "--to", empty.to}, &stdout, &stderr); code != 65 || !strings.Contains(stderr.String(), recordName) {
		t.Errorf("%d, %s", code, stderr.String())
	}
}

// TestInstallKilled kills installers at chance moments: what is there is whole, the old or the new, and the next one
// finds all that is ours.
func TestInstallKilled(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"cni-bridge", "loopback", "portmap"}
	texts := func(version string) map[string]string {
		m := map[string]string{}
		for _, n := range names {
			m[n] = strings.Repeat(version+n+"\n", 1<<17)
		}
		return m
	}
	to := t.TempDir()
	versions := []string{plugins(t, texts("1")), plugins(t, texts("2"))}
	valid := func(name, text string) bool { return text == texts("1")[name] || text == texts("2")[name] }
	killed := 0
	for n := range 40 {
		cmd := exec.Command(self, "install", "--from", versions[n%2], "--to", to)
		cmd.Args[0] = "cni-bridge" // see nstest.Programs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-time.After(rand.N(40 * time.Millisecond))
		cmd.Process.Kill() // it may have ended
		if err := cmd.Wait(); err != nil {
			killed++
		}
		for _, name := range names {
			text, err := os.ReadFile(filepath.Join(to, name))
			if err != nil && !os.IsNotExist(err) || err == nil && !valid(name, string(text)) {
				t.Fatalf("%s after a kill: %d bytes, %v", name, len(text), err)
			}
		}
	}
	if killed == 0 {
		t.Error("no installer was killed at work")
	}
	i := installation{from: versions[0], to: to}
	i.does(t, "apply")
	holds(t, to, texts("1"))
	i.does(t, "down")
	holds(t, to, map[string]string{})
}

func FuzzInstalled(f *testing.F) {
	sum := strings.Repeat("0a", 32)
	f.Add(sum + "  portmap\n" + sum + "  cni-bridge\n")
	f.Add("")
	f.Add(sum + "  ../x\n")
	f.Add(strings.ToUpper(sum) + "  x\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseInstalled([]byte(text))
		if err != nil {
			return
		}
		for name := range r {
			if strings.ContainsRune(name, '/') || name == ".." {
				t.Errorf("%q: name %q leads elsewhere", text, name)
			}
		}
		again, err := parseInstalled(r.render())
		if err != nil || !slices.Equal(again.render(), r.render()) {
			t.Errorf("%q: %q is read as %q, %v", text, r.render(), again.render(), err)
		}
	})
}
