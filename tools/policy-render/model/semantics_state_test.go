package model_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tools/policy-render/model"
)

var addr = netip.MustParseAddr

// semanticsPodStart: an endpoint is closed and waits until its own pod is known, and then has its address at once.
func semanticsPodStart(t *testing.T) {
	w := newWorld(t, `{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}`)
	key := model.Key{Namespace: "dev", Name: "new"}
	w.SetEndpoint(model.Endpoint{ID: "c1-eth0", Pod: key, UID: "2", IPs: []netip.Addr{addr("10.1.0.9")}})
	state := func() (waiting []string, local bool) {
		d := w.Commit()
		return d.Waiting, slices.ContainsFunc(w.LocalPods(), func(l *model.LocalPod) bool { return slices.Contains(l.IPs, addr("10.1.0.9")) })
	}
	if waiting, local := state(); len(waiting) != 1 || local {
		t.Errorf("pod unknown: waiting %v, open %v", waiting, local)
	}
	w.add("kind: Pod\nmetadata: {name: new, namespace: dev, uid: '1'}\nspec: {nodeName: n1}\nstatus: {podIP: 10.1.0.9}")
	if waiting, local := state(); len(waiting) != 1 || local {
		t.Errorf("pod of another uid: waiting %v, open %v", waiting, local)
	}
	w.add("kind: Pod\nmetadata: {name: new, namespace: dev, uid: '2'}\nspec: {nodeName: n1}")
	if waiting, local := state(); len(waiting) != 0 || !local {
		t.Errorf("pod known: waiting %v, open %v", waiting, local)
	}
	if !w.Judge(model.Ingress, model.Key{Namespace: "dev", Name: "web"}, addr("10.1.0.1"), addr("10.1.0.9"), model.TCP, 80).Allowed {
		t.Error("the address of the endpoint is not the pod's before the API says so")
	}
	w.SetEndpoint(model.Endpoint{ID: "c2-eth0", IPs: []netip.Addr{addr("10.1.0.10")}})
	if waiting, _ := state(); len(waiting) != 0 || w.LocalPods()[0].Endpoint.ID != "c2-eth0" || len(w.LocalPods()[0].Policies[model.Ingress]) != 0 {
		t.Errorf("endpoint without a pod: waiting %v, first local pod %+v", waiting, w.LocalPods()[0])
	}
	// A pod whose status still claims the address of a new endpoint has lost it.
	w.add("kind: Pod\nmetadata: {name: old, namespace: other}\nspec: {nodeName: n1}\nstatus: {podIP: 10.1.0.9}")
	w.Commit()
	if p := w.PodByAddr(addr("10.1.0.9")); p == nil || p.Key != key {
		t.Errorf("10.1.0.9 is %v's", p)
	}
	w.DeleteEndpoint("c1-eth0")
	w.Commit()
	if p := w.PodByAddr(addr("10.1.0.9")); p == nil || p.Name != "old" {
		t.Errorf("with the endpoint gone, 10.1.0.9 is %v's", p)
	}
}

func semanticsInvalid(t *testing.T) {
	bad := metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: "Like", Values: []string{"w"}}}}
	all := metav1.LabelSelector{}
	for _, c := range []struct {
		name string
		spec networkingv1.NetworkPolicySpec
	}{
		{"of the subject", networkingv1.NetworkPolicySpec{PodSelector: bad, Ingress: []networkingv1.NetworkPolicyIngressRule{{}}}},
		{"of a peer", networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{PodSelector: &bad}}}}}},
		{"of a namespace", networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &bad, PodSelector: &all}}}}}},
		{"empty peer", networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{}}}}}},
		{"except outside its block", networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{
			{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/8", Except: []string{"11.0.0.0/8"}}},
		}}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			if err := w.SetPolicy(&networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "p"}, Spec: c.spec}); err != nil {
				t.Fatal(err)
			}
			w.Commit()
			w.check("no dev/db dev/web 80/TCP\nno prod/web dev/web 80/TCP\nyes dev/web prod/web 80/TCP")
			if w.Relevant()[0].Invalid == "" {
				t.Error("Invalid says nothing")
			}
		})
	}
}

func semanticsFinished(t *testing.T) {
	w := newWorld(t, `{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: db}}}]}]}`)
	db := "kind: Pod\nmetadata: {name: db, namespace: dev, labels: {app: db}, deletionTimestamp: '2026-01-01T00:00:00Z'}\nspec: {nodeName: n1}\nstatus: {podIP: 10.1.0.2, phase: "
	w.add(db + "Running}")
	w.Commit()
	w.check("yes dev/db dev/web 80/TCP")
	w.add(db + "Succeeded}")
	w.add("kind: Pod\nmetadata: {name: next, namespace: prod}\nspec: {nodeName: n1}\nstatus: {podIP: 10.1.0.2}")
	w.Commit()
	w.check("no prod/next dev/web 80/TCP")
	if p := w.PodByAddr(addr("10.1.0.2")); p == nil || p.Name != "next" {
		t.Errorf("10.1.0.2 is %v's", p)
	}
	// A finished subject is isolated by nothing, and a pod that is ending still is.
	w.add("kind: Pod\nmetadata: {name: web, namespace: dev, labels: {app: web}, deletionTimestamp: '2026-01-01T00:00:00Z'}\nspec: {nodeName: n1}\nstatus: {podIP: 10.1.0.1, phase: Running}")
	w.Commit()
	w.check("no prod/web dev/web 80/TCP")
	w.add("kind: Pod\nmetadata: {name: web, namespace: dev, labels: {app: web}}\nspec: {nodeName: n1}\nstatus: {podIP: 10.1.0.1, phase: Failed}")
	if d := w.Commit(); len(d.Pods) != 1 || !d.Pods[0].Gone || len(w.Relevant()) != 0 || len(w.Sets()) != 0 {
		t.Errorf("the only subject has failed: %+v, relevant %v", d, w.Relevant())
	}
}

func semanticsHostNetwork(t *testing.T) {
	w := newWorld(t, `{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}`)
	w.add("kind: Pod\nmetadata: {name: agent, namespace: dev}\nspec: {nodeName: n2, hostNetwork: true}\nstatus: {podIP: 192.0.2.2}")
	w.Commit()
	w.check("no dev/agent dev/web 80/TCP\nyes prod/web 192.0.2.2 80/TCP\nyes 203.0.113.1 dev/agent 80/TCP")
	if w.PodByAddr(addr("192.0.2.2")) != nil {
		t.Error("the node's address is a pod's")
	}
}

// semanticsOwnNode: every address that a running pod of the node tells of is the node's, and reaches the node's pods.
func semanticsOwnNode(t *testing.T) {
	w := newWorld(t, `{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}`)
	w.check("no 192.0.2.7 dev/web 80/TCP\nno 192.0.2.8 dev/web 80/TCP")
	agent := "kind: Pod\nmetadata: {name: agent, namespace: prod}\nspec: {nodeName: %s, hostNetwork: true}\nstatus: {podIP: 192.0.2.7, phase: %s}"
	say := func(node, phase, want string) {
		t.Helper()
		w.add(fmt.Sprintf(agent, node, phase))
		w.Commit()
		w.check(want + " 192.0.2.7 dev/web 80/TCP")
	}
	say("n1", "Running", "yes")
	w.check("no 192.0.2.8 dev/web 80/TCP\nno prod/web dev/web 80/TCP")
	say("n2", "Running", "no")
	say("n1", "Running", "yes")
	say("n1", "Failed", "no")
	say("n1", "Running", "yes")
	w.add("kind: Pod\nmetadata: {name: more, namespace: prod}\nspec: {nodeName: n1}\nstatus: {podIP: 10.1.0.77, hostIPs: [{ip: 192.0.2.7}, {ip: 192.0.2.8}]}")
	w.Commit()
	w.check("yes 192.0.2.8 dev/web 80/TCP\nno 10.1.0.77 dev/web 80/TCP")
	w.DeletePod(model.Key{Namespace: "prod", Name: "agent"})
	w.Commit()
	w.check("yes 192.0.2.7 dev/web 80/TCP") // the other still tells of it
	w.DeletePod(model.Key{Namespace: "prod", Name: "more"})
	w.Commit()
	w.check("no 192.0.2.7 dev/web 80/TCP\nno 192.0.2.8 dev/web 80/TCP")
}

func semanticsLabels(t *testing.T) {
	w := newWorld(t, `{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: b}}}]}]}`)
	w.check("yes prod/web dev/web 80/TCP\nno other/bare dev/web 80/TCP")
	w.add("kind: Namespace\nmetadata: {name: other, labels: {team: b}}")
	if d := w.Commit(); len(d.Sets) != 1 || len(d.Sets[0].Members(state.IPv4)) != 2 || len(d.Pods)+len(d.Policies) != 0 {
		t.Errorf("namespace: %+v", d)
	}
	w.check("yes other/bare dev/web 80/TCP")
	w.DeleteNamespace("prod")
	w.Commit()
	w.check("no prod/web dev/web 80/TCP")
	w.add("kind: Pod\nmetadata: {name: web, namespace: dev, labels: {app: other}}\nspec: {nodeName: n1}\nstatus: {podIP: 10.1.0.1}")
	w.Commit()
	w.check("yes prod/web dev/web 80/TCP")
}

// semanticsUnknownNamespace: where every namespace has an object, one that is not known yet is in no selector of labels, not
// even in those that hold for labels that are absent.
func semanticsUnknownNamespace(t *testing.T) {
	for _, c := range []struct{ peer, free, strict string }{
		{"namespaceSelector: {}", "yes", "no"},
		{"namespaceSelector: {matchExpressions: [{key: team, operator: DoesNotExist}]}", "yes", "no"},
		{"namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [red]}]}, podSelector: {}", "yes", "no"},
		{"namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [prod]}]}", "yes", "no"},
		{"namespaceSelector: {matchLabels: {team: green}}", "no", "no"},
		{"namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: other}}", "yes", "yes"}, // its object cannot say otherwise
	} {
		policy := "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{" + c.peer + "}]}]}"
		newWorld(t, policy).check(c.free + " other/bare dev/web 80/TCP")

		w := world{t, model.New("n1")}
		w.RequireNamespaces()
		w.add(cluster)
		w.policy("dev", "p", policy)
		w.Commit()
		w.check(c.strict + " other/bare dev/web 80/TCP")
		w.add("kind: Namespace\nmetadata: {name: other}")
		if d := w.Commit(); (len(d.Sets) > 0) != (c.free != c.strict) {
			t.Errorf("%s: the namespace comes: %+v", c.peer, d)
		}
		w.check(c.free + " other/bare dev/web 80/TCP")
		w.DeleteNamespace("other")
		w.Commit()
		w.check(c.strict + " other/bare dev/web 80/TCP")
		w.add("kind: Namespace\nmetadata: {name: other, labels: {team: red}}")
		w.Commit()
		if strings.Contains(c.peer, "team") {
			w.check("no other/bare dev/web 80/TCP")
		}
	}
}
