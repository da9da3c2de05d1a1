//go:build netns

package policy

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tests/node"
)

// settled waits until the programs have taken up their work: a change that is made now is in force.
func (s *scene) settled(t *testing.T, round int) {
	t.Helper()
	s.Set("mark", policy("prod/mark", fmt.Sprintf("{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress], ingress: [{ports: [{port: %d}]}]}", 1000+round)))
	s.until(t, 30*time.Second, fmt.Sprintf("prod/client -> prod/web %d/TCP: allow", 1000+round))
	s.until(t, 30*time.Second, "prod/client -> prod/web 999/TCP: deny")
}

// TestKill kills the programs while packets go through: what is allowed loses nothing, what is denied stays denied; then a
// change is made while they are away, and takes effect when they are back.
func TestKill(t *testing.T) {
	s := &scene{Node: node.New(t), t: t, pods: map[string]*node.Pod{}}
	s.Namespaces("dev env=dev", "prod env=prod team=a")
	s.Set("policies", isolated)
	render, load := s.Policies()
	s.people()
	s.expect(t, fates)
	var kept []*stream
	for family := range 2 {
		kept = append(kept, open(t, s.pods["prod/client"], s.pods["dev/web"], family, 80))
	}
	handle := s.handle(t, "ingress", "vmap @ingress4")
	for round, what := range []string{"kill -9 of policy-render", "kill -9 of policy-load", "kill -9 of both", "TERM of both", "kill -9 of both once more"} {
		traffic := s.traffic(t)
		end := (*node.Process).Kill
		if strings.HasPrefix(what, "TERM") {
			end = (*node.Process).Stop
		}
		if !strings.Contains(what, "policy-load") {
			end(render)
			render = s.Watch("policy-render")
		}
		if !strings.Contains(what, "policy-render") {
			end(load)
			load = s.Watch("policy-load")
		}
		s.taken(t, "policy-render", render.Process.Pid)
		s.taken(t, "policy-load", load.Process.Pid)
		<-time.After(500 * time.Millisecond) // what a program does when it starts, it has done
		if now := s.handle(t, "ingress", "vmap @ingress4"); now != handle {
			t.Errorf("%s: the rules were loaded anew (handle %s, then %s), although nothing had changed", what, handle, now)
			handle = now
		}
		s.settled(t, round)
		traffic.check(t, what)
		s.expect(t, fates)
	}
	for _, one := range kept {
		one.moves(10 * time.Second)
	}

	load.Kill()
	render.Kill()
	s.Set("policies", strings.Replace(isolated, "port: 80", "port: 81", 1))
	s.expect(t, fates)
	s.Watch("policy-render")
	s.Watch("policy-load")
	s.until(t, 20*time.Second, "prod/client -> dev/web 81/TCP: allow")
	s.until(t, 20*time.Second, "prod/client -> dev/web 80/TCP: deny")
	for _, one := range kept {
		one.stops(time.Now(), 20*time.Second) // it was forbidden while nobody looked
	}
}

// taken waits until a program that was started anew holds its lock.
func (s *scene) taken(t *testing.T, program string, pid int) {
	t.Helper()
	s.Eventually(30*time.Second, func() string {
		if text, _ := os.ReadFile(filepath.Join(string(s.Run), "lock", program)); !strings.HasPrefix(string(text), fmt.Sprint(pid, " ")) {
			return fmt.Sprintf("lock/%s holds %q, not %d", program, text, pid)
		}
		return ""
	})
}

// people attaches the pods of a scene.
func (s *scene) people() {
	for _, p := range [][2]string{{"dev/web", "app=web tier=front"}, {"dev/db", "app=db"}, {"prod/client", "app=client"}, {"prod/web", "app=web flag="}} {
		s.pods[p[0]] = s.Pod(p[0], p[1])
	}
}

// TestKillSupervisor does the same where the supervisor runs the two.
func TestKillSupervisor(t *testing.T) {
	s := &scene{Node: node.New(t), t: t, pods: map[string]*node.Pod{}}
	s.Namespaces("dev env=dev", "prod env=prod team=a")
	s.Set("policies", isolated)
	stages := t.TempDir()
	t.Cleanup(func() {
		if log, _ := os.ReadFile(filepath.Join(stages, "log")); t.Failed() {
			t.Logf("the supervisor's log:\n%s", log)
		}
	})
	for _, name := range []string{"policy-render.toml", "policy-load.toml"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "packaging", "stages.d", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(stages, name), text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	supervise := func() *exec.Cmd {
		towpath := node.Binary(t, "towpath")
		cmd := exec.Command("nsenter", "--net="+s.Path, "--", towpath, "supervise", "--run-dir", string(s.Run), "--stages", stages)
		cmd.Env = append(os.Environ(), "TOWPATH_OBJECTS="+s.Objects, "PATH="+filepath.Dir(towpath)+":"+os.Getenv("PATH"))
		log, err := os.Create(filepath.Join(stages, "log")) // its programs outlive it, and would hold a pipe open
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		cmd.Stderr = log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			cmd.Process.Signal(os.Interrupt) // in order, so that it stops what it has started
			cmd.Wait()
		})
		return cmd
	}
	process := func(stage string) int {
		st, err := state.Load[state.Stage](filepath.Join(string(s.Run), "supervisor", stage+".json"))
		if err != nil || st.State != "ready" {
			return 0
		}
		return st.PID
	}
	supervisor := supervise()
	s.Eventually(30*time.Second, func() string { return map[bool]string{true: "nothing is loaded"}[s.Loaded().Generation == ""] })
	s.people()
	s.expect(t, fates)
	kept := open(t, s.pods["prod/client"], s.pods["dev/web"], 1, 80)
	for round, what := range []string{"policy-render", "policy-load", "supervisor", "supervisor"} {
		traffic := s.traffic(t)
		if what == "supervisor" {
			supervisor.Process.Kill()
			supervisor.Wait()
			supervisor = supervise()
		} else {
			was := process(what)
			victim, err := os.FindProcess(was)
			if err != nil || was == 0 || victim.Kill() != nil {
				t.Fatalf("%s: no process: %v", what, err)
			}
			s.Eventually(30*time.Second, func() string {
				if now := process(what); now == 0 || now == was {
					return what + " is not started again"
				}
				return ""
			})
		}
		s.settled(t, round)
		traffic.check(t, "kill -9 of "+what+" under the supervisor")
		s.expect(t, fates)
	}
	kept.moves(10 * time.Second)
}
