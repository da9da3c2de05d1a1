//go:build netns

package deploy

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/tests/node"
)

func decode(t *testing.T, data []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
}

// TestRightsAreUsed runs the programs of a node under the rights of the manifest: the API server's log shows that nothing
// else is asked for, and that every verb that is granted is used.
func TestRightsAreUsed(t *testing.T) {
	s, all := install(t, "towpath.yaml")
	token := s.token("a", `{"podCIDR":"10.244.0.0/24","podCIDRs":["10.244.0.0/24"]}`)
	late := s.token("late", `{}`)
	s.token("b", `{"podCIDR":"10.244.1.0/24"}`)
	for _, c := range [][]string{
		{"ip", "link", "add", "up0", "type", "veth", "peer", "name", "far0"},
		{"ip", "addr", "add", "192.168.7.1/24", "dev", "up0"},
		{"ip", "link", "set", "up0", "up"},
		{"ip", "link", "set", "far0", "up"},
		{"ip", "route", "add", "default", "via", "192.168.7.254"},
	} {
		nstest.Run(t, c[0], c[1:]...)
	}
	t.Cleanup(func() { exec.Command("ip", "link", "del", "up0").Run() }) // with the namespace it goes anyway

	dir := t.TempDir()
	env := environment(t, all, dir)
	env["TOWPATH_NODE"], env["TOWPATH_KUBECONFIG"] = "a", s.kubeconfig(token)
	stop := start(t, dir, env, "towpath", "supervise")
	probe(t, strings.TrimPrefix(env["TOWPATH_HEALTH"], "unix:"))
	eventually(t, func() string {
		if text := string(s.Do("GET", "/api/v1/nodes/a", "")); !strings.Contains(text, "FlannelIsUp") || !strings.Contains(text, "VtepMAC") {
			return "node a does not say that its network stands: " + text
		}
		return ""
	})
	if _, err := os.Stat(env["TOWPATH_CONFLIST"]); err != nil {
		t.Error(err)
	}

	// What a person asks in the pod.
	for _, args := range [][]string{
		{"subnet-lease", "list"}, {"policy-render", "explain", "--from", "10.244.0.7", "--to", "10.244.1.7", "--port", "80/TCP"},
	} {
		if out, err := command(t, env, args...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", args, err, out)
		}
	}

	// A node that gets no subnet says so in an Event.
	waiting := maps.Clone(env)
	waiting["TOWPATH_NODE"], waiting["TOWPATH_KUBECONFIG"], waiting["TOWPATH_RUN_DIR"] = "late", s.kubeconfig(late), filepath.Join(dir, "late")
	stopWaiting := start(t, dir, waiting, "subnet-lease", "watch")
	eventually(t, func() string {
		if text := string(s.Do("GET", "/api/v1/namespaces/default/events", "")); !strings.Contains(text, `"name":"late"`) {
			return "no Event about the node without podCIDR: " + text
		}
		return ""
	})

	// What uninstalling does.
	stop()
	stopWaiting()
	if out, err := command(t, env, "subnet-lease", "release").CombinedOutput(); err != nil {
		t.Errorf("release: %v\n%s", err, out)
	}
	if text := string(s.Do("GET", "/api/v1/nodes/a", "")); strings.Contains(text, "VtepMAC") {
		t.Errorf("published after release: %s", text)
	}

	granted := rules(all)
	var used map[string]int
	eventually(t, func() string { // a watch is logged when the server has noticed its end
		used = s.asked(t, "system:serviceaccount:towpath:towpath")
		for what := range granted {
			if _, ok := used[what]; !ok {
				return "granted and never used: " + what
			}
		}
		return ""
	})
	for what, code := range used {
		if code == 403 || !granted[what] {
			t.Errorf("asked for without a right to it: %s (%d)", what, code)
		}
	}
	t.Logf("%d rights, all used: %s", len(granted), strings.Join(slices.Sorted(maps.Keys(granted)), ", "))
}

// environment is what the DaemonSet gives to its container, with the paths of this test.
func environment(t *testing.T, all []object, dir string) map[string]string {
	t.Helper()
	containers := find(t, all, "DaemonSet").at("spec", "template", "spec", "containers").([]any)
	env := map[string]string{}
	for _, v := range containers[0].(map[string]any)["env"].([]any) {
		name, _ := v.(map[string]any)["name"].(string)
		env[name], _ = v.(map[string]any)["value"].(string)
	}
	for name, text := range find(t, all, "ConfigMap").at("data").(map[string]any) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text.(string)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stages, err := filepath.Abs(filepath.Join(top, "packaging", "stages.d"))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"TOWPATH_NET_CONF": filepath.Join(dir, "net-conf.json"), "TOWPATH_CNI_CONF": filepath.Join(dir, "cni-conf.json"),
		"TOWPATH_SUBNET_ENV": filepath.Join(dir, "flannel", "subnet.env"), "TOWPATH_SYSCTL_ROOT": "/proc/sys", "TOWPATH_HEALTH": "unix:" + filepath.Join(dir, "health"),
	} {
		if env[name] == "" {
			t.Errorf("the DaemonSet does not set %s", name)
		}
		env[name] = value
	}
	env["TOWPATH_RUN_DIR"], env["TOWPATH_CONFLIST"], env["TOWPATH_STAGES"] = filepath.Join(dir, "run"), filepath.Join(dir, "net.d", "10-towpath.conflist"), stages
	return env
}

func command(t *testing.T, env map[string]string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(node.Binary(t, args[0]), args[1:]...)
	cmd.Env = os.Environ()
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// start runs a program until it is stopped, at the end of the test at the latest; where the test has failed its log is
// printed.
func start(t *testing.T, dir string, env map[string]string, args ...string) (stop func()) {
	t.Helper()
	log, err := os.CreateTemp(dir, args[0])
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(t, env, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", args, err)
		}
	})
	t.Cleanup(func() {
		stop()
		if text, err := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("%s: %v\n%s", args, err, text)
		}
		log.Close()
	})
	return stop
}

// probe waits until the supervisor says that it is ready.
func probe(t *testing.T, socket string) {
	t.Helper()
	eventually(t, func() string {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			return err.Error()
		}
		defer conn.Close()
		fmt.Fprint(conn, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
		lines := bufio.NewScanner(conn)
		text := ""
		for lines.Scan() {
			text += lines.Text() + "\n"
		}
		if !strings.HasPrefix(text, "HTTP/1.1 200 ") {
			return "not ready: " + text
		}
		return ""
	})
}

// rules are the rights that the manifest grants: "VERB GROUP/RESOURCE" or "VERB GROUP/RESOURCE in NAMESPACE".
func rules(all []object) map[string]bool {
	out := map[string]bool{}
	for _, o := range all {
		where := ""
		switch o.text("kind") {
		case "ClusterRole":
		case "Role":
			where = " in " + o.text("metadata", "namespace")
		default:
			continue
		}
		for _, rule := range o.at("rules").([]any) {
			list := func(key string) []any { l, _ := rule.(map[string]any)[key].([]any); return l }
			for _, group := range list("apiGroups") {
				for _, resource := range list("resources") {
					for _, verb := range list("verbs") {
						out[fmt.Sprintf("%s %s/%s%s", verb, group, resource, where)] = true
					}
				}
			}
		}
	}
	return out
}

// asked are the rights that a user has needed so far, with the last status of the answer.
func (s *server) asked(t *testing.T, user string) map[string]int {
	t.Helper()
	f, err := os.Open(s.Audit)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string]int{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct {
			Verb, RequestURI string
			User             struct{ Username string }
			ObjectRef        *struct{ Resource, Subresource, APIGroup, Namespace string }
			ResponseStatus   struct{ Code int }
		}
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue // the last, which is still being written
		}
		if e.User.Username != user {
			continue
		}
		what := e.Verb + " " + e.RequestURI
		if r := e.ObjectRef; r != nil {
			what = e.Verb + " " + r.APIGroup + "/" + r.Resource
			if r.Subresource != "" {
				what += "/" + r.Subresource
			}
			if r.Resource == "events" {
				what += " in " + r.Namespace
			}
		}
		if out[what] != 403 {
			out[what] = e.ResponseStatus.Code
		}
	}
	if len(out) == 0 {
		t.Fatalf("%s has asked for nothing: %v", user, lines.Err())
	}
	return out
}
