//go:build netns

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/kube/apitest"
	"github.com/towpath/towpath/lib/nstest"
)

// TestKubeAway: the API server goes away and comes back under several nodes. The last good files carry on, nobody ends, and
// at its return each node asks for little.
func TestKubeAway(t *testing.T) {
	const nodes, away = 6, 12 * time.Second
	c := newCluster(t)
	var all []*node
	for i := range nodes {
		name := fmt.Sprintf("n%d", i)
		c.object(name, spec(fmt.Sprintf("10.244.%d.0/24", i)), nil)
		n := c.member(name, 10+i)
		n.link("vxlan", fmt.Sprintf(vtep, 10+i))
		all = append(all, n)
	}
	logs := make([]*nstest.Log, nodes)
	cmds := make([]*exec.Cmd, nodes)
	for i, n := range all {
		logs[i], cmds[i] = n.watch()
	}
	whole := func(n *node) bool {
		for i := range nodes {
			if name := fmt.Sprintf("n%d", i); name != n.name && !exists(n.run.Peer(name)) {
				return false
			}
		}
		return true
	}
	for _, n := range all {
		eventually(t, n.name+" knows the others", func() bool { return whole(n) })
	}
	c.Pause()
	for i, log := range logs {
		eventually(t, all[i].name+" notices", func() bool { return strings.Contains(log.String(), "the store does not answer") })
	}
	// What happens on the machine meanwhile is seen to, and told when there is somebody to tell.
	run(t, "ip", "addr", "del", "192.168.7.10/24", "dev", all[0].uplink)
	run(t, "ip", "addr", "add", "192.168.7.110/24", "dev", all[0].uplink)
	<-time.After(away)
	for i, n := range all {
		if !whole(n) || !exists(n.run.PeersSynced()) || n.lease().Subnet.IPv4.String() != fmt.Sprintf("10.244.%d.0/24", i) {
			t.Errorf("%s lost something while the API server was away", n.name)
		}
		if cmds[i].ProcessState != nil {
			t.Errorf("%s ended", n.name)
		}
	}
	code, _, errs := all[1].exec("apply") // the lock is held, but nothing tells of the server before that
	if code == 0 {
		t.Errorf("apply beside watch: %d, %s", code, errs)
	}
	before := len(c.audit())
	back := time.Now()
	c.Resume()
	c.object("late", spec("10.244.99.0/24"), flannel("vxlan", "192.168.7.99", fmt.Sprintf(vtep, 99)))
	deadline := time.Now().Add(2 * time.Minute) // the longest delay of a client is 60 s
	for _, n := range all {
		for !exists(n.run.Peer("late")) || all[1].peer("n0").PublicIP.IPv4.String() != "192.168.7.110" {
			if time.Now().After(deadline) {
				t.Fatalf("%s does not hear of the late node", n.name)
			}
			<-time.After(20 * time.Millisecond)
		}
	}
	took := time.Since(back)
	for _, cmd := range cmds { // a watch is in the log once it has ended
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
	}
	eventually(t, "every node's watch is in the log", func() bool { return c.requests("watch", "nodes") >= nodes })
	requests := map[string]int{}
	perSecond := map[string]int{}
	most := 0
	for _, r := range c.audit()[before:] {
		if strings.HasPrefix(r.UserAgent, "subnet-lease/") {
			requests[r.Verb+" "+r.ObjectRef.Resource+"/"+r.ObjectRef.Subresource]++
			second, _, _ := strings.Cut(r.RequestReceivedTimestamp, ".")
			perSecond[second]++
			most = max(most, perSecond[second])
		}
	}
	total := 0
	for _, n := range requests {
		total += n
	}
	t.Logf("%d nodes, away for %s: all current %.1f s after the return, %d requests (%v), at most %d in a second", nodes, away, took.Seconds(), total, requests, most)
	if total > 4*nodes {
		t.Errorf("%d requests of %d nodes at the return: %v", total, nodes, requests)
	}
}

// TestKubeStartsWithoutServer: with nobody to ask, what stands stays.
func TestKubeStartsWithoutServer(t *testing.T) {
	c := newCluster(t)
	c.object("a", spec("10.244.0.0/24"), nil)
	c.object("b", spec("10.244.1.0/24"), flannel("vxlan", "192.168.7.2", fmt.Sprintf(vtep, 2)))
	a := c.member("a", 1)
	a.link("vxlan", fmt.Sprintf(vtep, 1))
	a.must("apply")
	lease := read(t, a.run.Lease())
	c.Pause()
	if code, out, errs := a.exec("apply"); code != 69 || out != "" || !strings.Contains(errs, "list nodes") {
		t.Errorf("apply: %d, %s%s", code, out, errs)
	}
	log, cmd := a.watch() // .synced stands already
	eventually(t, "watch says so", func() bool { return strings.Contains(log.String(), "cannot apply") })
	if read(t, a.run.Lease()) != lease || !exists(a.run.Peer("b")) || !exists(a.run.PeersSynced()) {
		t.Error("something was taken away")
	}
	c.Resume()
	c.object("d", spec("10.244.3.0/24"), flannel("vxlan", "192.168.7.4", fmt.Sprintf(vtep, 4)))
	eventually(t, "a follows", func() bool { return exists(a.run.Peer("d")) })
	if cmd.ProcessState != nil {
		t.Error("watch ended")
	}
}

// TestKubeRights: the rights that the manual names are enough, and without them the exit status and the cause say so.
func TestKubeRights(t *testing.T) {
	c := &cluster{apitest.Start(t, "lease", "nobody"), t}
	c.object("a", spec("10.244.0.0/24"), nil)
	c.Do("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", `{"metadata":{"name":"lease"},"rules":[
{"apiGroups":[""],"resources":["nodes"],"verbs":["get","list","watch"]},
{"apiGroups":[""],"resources":["nodes/status"],"verbs":["patch"]},
{"apiGroups":[""],"resources":["events"],"verbs":["create"]}]}`)
	c.Do("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", `{"metadata":{"name":"lease"},
"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"lease"},"subjects":[{"apiGroup":"rbac.authorization.k8s.io","kind":"User","name":"lease"}]}`)
	c.Do("POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles", `{"metadata":{"name":"conf"},"rules":[
{"apiGroups":[""],"resources":["configmaps"],"resourceNames":["conf"],"verbs":["get","list","watch"]}]}`)
	c.Do("POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings", `{"metadata":{"name":"conf"},
"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"conf"},"subjects":[{"apiGroup":"rbac.authorization.k8s.io","kind":"User","name":"lease"}]}`)
	c.Do("POST", "/api/v1/namespaces/default/configmaps", fmt.Sprintf(`{"metadata":{"name":"conf"},"data":{"net-conf.json":%q}}`, plain))
	a := c.member("a", 1)
	a.netConf = "configmap:default/conf"
	as := func(user string) { a.env[0] = "TOWPATH_KUBECONFIG=" + c.Kubeconfig(user) }
	as("nobody")
	if code, _, errs := a.exec("apply"); code != 77 || !strings.Contains(errs, "forbidden") {
		t.Errorf("without rights: %d, %s", code, errs)
	}
	as("lease")
	a.must("apply")
	a.link("vxlan", fmt.Sprintf(vtep, 1))
	c.object("twin", spec("10.244.10.0/24"), flannel("vxlan", "192.168.7.1", fmt.Sprintf(vtep, 77)))
	log, _ := a.watch()
	eventually(t, "the event", func() bool { return len(c.events("a")) == 1 })
	eventually(t, "a has published", func() bool { return len(c.annotations("a")) == 4 })
	os.WriteFile(a.run.Routes(), []byte(`{"version":1,"peers":1}`), 0o644)
	eventually(t, "the condition", func() bool { return c.condition("a") != "" || strings.Contains(log.String(), "flannel.1") })
	for _, r := range c.audit() {
		if r.User.Username == "lease" && r.ResponseStatus.Code > 399 {
			t.Errorf("refused: %+v", r)
		}
	}
}
