//go:build netns

package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/kube/apitest"
	"github.com/towpath/towpath/lib/ruleset"
)

// live is policy-render watch on a real API server.
type live struct {
	*watched
	api *apitest.Server
}

func newLive(t *testing.T, users ...string) *live {
	l := &live{newWatched(t), apitest.Start(t, users...)}
	l.objects, l.patience = "kube", 2*time.Minute // an API server that was away is asked less and less often
	return l
}

// follow starts the program as a user.
func (l *live) follow(user string, more ...string) {
	l.t.Helper()
	l.start(append([]string{"--kubeconfig", l.api.Kubeconfig(user)}, more...)...)
}

func (l *live) namespace(name, labels string) {
	l.t.Helper()
	l.api.Do("POST", "/api/v1/namespaces", `{"metadata":{"name":"`+name+`","labels":{`+labels+`}}}`)
	// what the controller manager would do, and admission asks for
	l.api.Do("POST", "/api/v1/namespaces/"+name+"/serviceaccounts", `{"metadata":{"name":"default"}}`)
}

func podPath(name string) string {
	namespace, name, _ := strings.Cut(name, "/")
	return "/api/v1/namespaces/" + namespace + "/pods/" + name
}

// pod makes a pod NAMESPACE/NAME and returns its uid; more goes into its spec.
func (l *live) pod(name, node, labels, more string) string {
	l.t.Helper()
	path := podPath(name)
	answer := l.api.Do("POST", filepath.Dir(path), fmt.Sprintf(`{"metadata":{"name":%q,"labels":{%s}},
		"spec":{"nodeName":%q,"containers":[{"name":"main","image":"none","ports":[{"name":"http","containerPort":8080}]}]%s}}`, filepath.Base(path), labels, node, more))
	_, rest, _ := strings.Cut(string(answer), `"uid":"`)
	uid, _, _ := strings.Cut(rest, `"`)
	return uid
}

// status gives a pod an address and a phase, as the kubelet does.
func (l *live) status(name, ip, phase string) {
	l.t.Helper()
	l.merge(podPath(name)+"/status", fmt.Sprintf(`{"status":{"phase":%q,"podIP":%q,"podIPs":[{"ip":%q}]}}`, phase, ip, ip))
}

// merge changes an object.
func (l *live) merge(path, patch string) {
	l.t.Helper()
	if code, answer := l.api.As(apitest.Admin, "PATCH", path, "application/merge-patch+json", patch); code != http.StatusOK {
		l.t.Fatalf("PATCH %s: %d: %s", path, code, answer)
	}
}

func (l *live) remove(name string) {
	l.t.Helper()
	l.api.Do("DELETE", podPath(name)+"?gracePeriodSeconds=0", "")
}

func (l *live) policy(name, spec string) {
	l.t.Helper()
	namespace, name, _ := strings.Cut(name, "/")
	l.api.Do("POST", "/apis/networking.k8s.io/v1/namespaces/"+namespace+"/networkpolicies", `{"metadata":{"name":"`+name+`"},"spec":`+spec+`}`)
}

// endpoint writes the file of an interface, as cni-bridge does.
func (l *live) endpoint(id, pod, uid, ip string) {
	l.t.Helper()
	namespace, name, _ := strings.Cut(pod, "/")
	l.write(filepath.Join(l.dir.Endpoints(), id+".json"), fmt.Sprintf(`{"version": 1, "containerID": %q, "ifName": "eth0", "pod": %q, "namespace": %q, "uid": %q,
		"ip": {"ipv4": %q}, "mac": "02:00:00:00:00:01", "hostVeth": "veth1", "bridge": ""}`, id, name, namespace, uid, ip))
}

// elements waits until files of policy/ below a directory, taken together, hold texts, and no others.
func (l *live) elements(what, dir string, has, lacks []string) {
	l.t.Helper()
	l.manifest(what, func(m *ruleset.Manifest) bool {
		all := ""
		for _, e := range m.Entries {
			if strings.HasPrefix(e.Path, dir) {
				all += l.file(e.Path)
			}
		}
		for _, text := range has {
			if !strings.Contains(all, text) {
				return false
			}
		}
		for _, text := range lacks {
			if strings.Contains(all, text) {
				return false
			}
		}
		return true
	})
}

// isolated waits until a pod's address is in the map of those with ingress policies, under its name.
func (l *live) isolated(ip, name string) {
	l.t.Helper()
	l.elements(name+" is isolated", "inet/maps/ingress4", []string{fmt.Sprintf("%s comment %q : goto gi-", ip, name)}, nil)
}

// peer waits until an address is in a set of selector peers, or in none.
func (l *live) peer(ip string, in bool) {
	l.t.Helper()
	text := []string{"\t" + ip + " "}
	if in {
		l.elements(ip+" is a peer", "inet/sets/sel4-", text, nil)
	} else {
		l.elements(ip+" is no peer", "inet/sets/sel4-", nil, text)
	}
}

func (l *live) covered(id string, want bool) {
	l.t.Helper()
	l.manifest(fmt.Sprintf("%s is covered: %v", id, want), func(m *ruleset.Manifest) bool {
		for _, e := range m.Endpoints {
			if e == id {
				return want
			}
		}
		return !want
	})
}

const (
	fromFriends = `{"podSelector":{},"policyTypes":["Ingress"],"ingress":[{"from":[{"namespaceSelector":{"matchLabels":{"team":"blue"}},"podSelector":{"matchLabels":{"app":"friend"}}}]}]}`
	here        = "n1"
)

// TestLiveAway: an API server that is away closes pods where nothing is known of them, and changes nothing where something is.
func TestLiveAway(t *testing.T) {
	l := newLive(t)
	l.namespace("dev", `"team":"blue"`)
	uid := l.pod("dev/web", here, `"app":"web"`, "")
	l.policy("dev/friends", fromFriends)
	l.endpoint("web-eth0", "dev/web", uid, "10.244.1.2")
	l.api.Pause()
	l.follow(apitest.Admin)
	l.says("failing: waiting for namespaces, pods, networkpolicies of https://127.0.0.1:")
	closed := l.manifest("closed", func(*ruleset.Manifest) bool { return true })
	if len(closed.Endpoints) > 0 || !strings.Contains(l.file("inet/chains/forward.nft")+l.file("inet/chains/ingress.nft")+l.file("inet/chains/egress.nft"), "unknown-pod") {
		t.Errorf("the skeleton covers %q; its files:\n%s%s", closed.Endpoints, l.file("inet/chains/ingress.nft"), l.file("inet/chains/egress.nft"))
	}
	pid := l.cmd.Process.Pid
	l.api.Resume()
	l.covered("web-eth0", true)
	l.isolated("10.244.1.2", "dev/web") // without a status: the address is the endpoint's
	if l.cmd.Process.Pid != pid {
		t.Error("the program was started again")
	}
	l.says("1 pods, 1 policies")

	l.stop()
	uid = l.pod("dev/next", here, `"app":"web"`, "")
	l.api.Pause()
	before, err := os.ReadFile(l.dir.PolicyNFT())
	if err != nil {
		t.Fatal(err)
	}
	l.follow(apitest.Admin)
	l.endpoint("next-eth0", "dev/next", uid, "10.244.1.3")
	l.says("failing: waiting for")
	<-time.After(2 * time.Second) // while nothing may happen
	if after, err := os.ReadFile(l.dir.PolicyNFT()); err != nil || string(after) != string(before) {
		t.Errorf("with the API server away policy.nft changed (%v) to\n%s", err, after)
	}
	l.api.Resume()
	l.covered("next-eth0", true)
	l.isolated("10.244.1.3", "dev/next")
	l.isolated("10.244.1.2", "dev/web")

	l.api.Pause() // and in mid-run
	l.says("failing: ")
	l.api.Resume()
	l.pod("dev/friend", "worker02", `"app":"friend"`, "")
	l.status("dev/friend", "10.244.2.2", "Running")
	l.peer("10.244.2.2", true)
	l.says("2 pods, 1 policies")
}

// TestLiveOrder: whatever comes first, in the end the rules are those of what there is.
func TestLiveOrder(t *testing.T) {
	l := newLive(t)
	l.follow(apitest.Admin)
	l.says("READY=1")

	// the endpoint before the pod, the pod before its labels' policy
	l.endpoint("web-eth0", "dev/web", "", "10.244.1.2")
	l.says("1 waiting for their pods")
	l.covered("web-eth0", false)
	l.namespace("dev", `"team":"blue"`)
	l.policy("dev/friends", fromFriends)
	l.pod("dev/web", here, `"app":"web"`, "")
	l.covered("web-eth0", true)
	l.isolated("10.244.1.2", "dev/web")

	// peers: labels of pod and namespace, phases
	l.pod("dev/friend", "worker02", `"app":"friend"`, "")
	l.status("dev/friend", "10.244.2.2", "Running")
	l.peer("10.244.2.2", true)
	l.merge(podPath("dev/friend"), `{"metadata":{"labels":{"app":"stranger"}}}`)
	l.peer("10.244.2.2", false)
	l.merge(podPath("dev/friend"), `{"metadata":{"labels":{"app":"friend"}}}`)
	l.peer("10.244.2.2", true)
	l.merge("/api/v1/namespaces/dev", `{"metadata":{"labels":{"team":"red"}}}`)
	l.peer("10.244.2.2", false)
	l.merge("/api/v1/namespaces/dev", `{"metadata":{"labels":{"team":"blue"}}}`)
	l.peer("10.244.2.2", true)
	l.status("dev/friend", "10.244.2.2", "Succeeded")
	l.peer("10.244.2.2", false)

	// one address, two pods, for as long as the first one's end is not told
	l.pod("dev/friend2", "worker02", `"app":"friend"`, "")
	l.pod("dev/heir", "worker02", `"app":"heir"`, "")
	l.status("dev/friend2", "10.244.2.3", "Running")
	l.peer("10.244.2.3", true)
	l.status("dev/heir", "10.244.2.3", "Running")
	l.remove("dev/friend2")
	l.peer("10.244.2.3", false)

	// a pod of this node that gets the address of one whose end is not told: the endpoint says whose it is
	l.pod("dev/old", "worker02", `"app":"friend"`, "")
	l.status("dev/old", "10.244.1.3", "Running")
	l.peer("10.244.1.3", true)
	l.endpoint("new-eth0", "dev/new", l.pod("dev/new", here, `"app":"new"`, ""), "10.244.1.3")
	l.covered("new-eth0", true)
	l.peer("10.244.1.3", false)
	l.remove("dev/old")
	l.isolated("10.244.1.3", "dev/new")

	// a pod in the place of another of its name
	uid := l.pod("dev/twice", here, `"app":"friend"`, "")
	l.endpoint("twice1-eth0", "dev/twice", uid, "10.244.1.4")
	l.covered("twice1-eth0", true)
	l.peer("10.244.1.4", true)
	l.remove("dev/twice")
	l.covered("twice1-eth0", false)
	uid = l.pod("dev/twice", here, `"app":"web"`, "")
	l.says("1 waiting for their pods")
	l.peer("10.244.1.4", false)
	l.endpoint("twice2-eth0", "dev/twice", uid, "10.244.1.5")
	l.covered("twice2-eth0", true)
	l.covered("twice1-eth0", false)

	// the host's network is nobody's
	l.pod("dev/host", "worker02", `"app":"friend"`, `,"hostNetwork":true`)
	l.status("dev/host", "192.168.0.12", "Running")
	l.pod("dev/last", "worker02", `"app":"friend"`, "")
	l.status("dev/last", "10.244.2.9", "Running")
	l.peer("10.244.2.9", true)
	l.peer("192.168.0.12", false)

	l.api.Do("DELETE", "/apis/networking.k8s.io/v1/namespaces/dev/networkpolicies/friends", "")
	l.elements("no policy", "inet/maps/ingress4", nil, []string{"goto gi-"})
}

// TestLiveRefused: rights that lack are said, and when they are given, that is enough.
func TestLiveRefused(t *testing.T) {
	l := newLive(t, "towpath")
	l.namespace("dev", "")
	l.policy("dev/closed", `{"podSelector":{},"policyTypes":["Ingress"]}`)
	l.endpoint("web-eth0", "dev/web", l.pod("dev/web", here, "", ""), "10.244.1.2")
	l.follow("towpath")
	l.says(`is forbidden: User "towpath" cannot`)
	l.covered("web-eth0", false)
	l.api.Do("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", `{"metadata":{"name":"reader"},"rules":[
		{"apiGroups":[""],"resources":["namespaces","pods"],"verbs":["list","watch"]},{"apiGroups":["networking.k8s.io"],"resources":["networkpolicies"],"verbs":["list","watch"]}]}`)
	binding := "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
	l.api.Do("POST", binding, `{"metadata":{"name":"reader"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"reader"},
		"subjects":[{"kind":"User","name":"towpath"}]}`)
	l.isolated("10.244.1.2", "dev/web")
	l.covered("web-eth0", true)
}
