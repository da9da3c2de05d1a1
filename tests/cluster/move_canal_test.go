//go:build cluster && peer

package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// canal is what of canal matters here: flanneld in a DaemonSet of that name, which takes its network from canal-config.
const canal = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: canal, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: flannel}
rules:
  - {apiGroups: [""], resources: [pods], verbs: [get]}
  - {apiGroups: [""], resources: [nodes], verbs: [get, list, watch]}
  - {apiGroups: [""], resources: [nodes/status], verbs: [patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: canal-flannel}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: flannel}
subjects: [{kind: ServiceAccount, name: canal, namespace: kube-system}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: canal-config, namespace: kube-system}
data:
  net-conf.json: |
    {"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: canal, namespace: kube-system, labels: {k8s-app: canal}}
spec:
  selector: {matchLabels: {k8s-app: canal}}
  template:
    metadata: {labels: {k8s-app: canal}}
    spec:
      nodeSelector: {kubernetes.io/os: linux}
      hostNetwork: true
      serviceAccountName: canal
      tolerations: [{operator: Exists}]
      containers:
        - name: kube-flannel
          image: %s
          imagePullPolicy: Never
          command: [/opt/bin/flanneld, --ip-masq, --kube-subnet-mgr]
          securityContext: {privileged: true}
          env:
            - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
            - {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
          volumeMounts: [{name: config, mountPath: /etc/kube-flannel/}]
      volumes: [{name: config, configMap: {name: canal-config}}]
`

// calico leaves on a node what Calico would: its CNI plugin's place is taken by ptp, which also attaches pods by a route each.
const calico = `
cp "$1" /opt/cni/bin/calico
cat >/etc/cni/net.d/10-canal.conflist <<TEXT
{"name": "k8s-pod-network", "cniVersion": "0.3.1", "plugins": [{"type": "calico", "mtu": 1450,
  "ipam": {"type": "host-local", "ranges": [[{"subnet": "$2"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
TEXT
for table in filter nat raw mangle; do
	case $table in filter) base=FORWARD ;; nat) base=POSTROUTING ;; *) base=PREROUTING ;; esac
	iptables-nft -t $table -N cali-$base
	iptables-nft -t $table -N cali-to-wl-dispatch
	iptables-nft -t $table -A cali-$base -m comment --comment cali:vjrMJCRpqwy5oRoX -j cali-to-wl-dispatch
	iptables-nft -t $table -I $base -m comment --comment cali:wUHhoiAYhphO9Mso -j cali-$base
done
iptables-nft -A FORWARD -m comment --comment cali:S93hcgKJrXEqnTfs -m mark --mark 0x10000/0x10000 -j ACCEPT`

// TestMoveCanal drains canal's nodes one after the other into towpath; pods of both halves reach each other meanwhile. flanneld is the real
// one, Calico's leavings are made by commands. It needs what TestMove needs, the reference plugin ptp, and a cluster of its own.
func TestMoveCanal(t *testing.T) {
	peer := os.Getenv("PEER_FLANNEL_DIR")
	if peer == "" || os.Getenv("MODE") != "none" {
		t.Fatal("it needs MODE=none and PEER_FLANNEL_DIR=DIR with flanneld, flannel, ptp (the CNI plugins) and kube-flannel.yml")
	}
	image := loadImages(t, peer)
	ptp := filepath.Join(peer, "ptp")
	if _, err := os.Stat(ptp); err != nil {
		ptp = filepath.Join(peer, "bin", "ptp")
	}
	for _, node := range nodes(t) {
		in(t, node, "bash", "-euo", "pipefail", "-c", calico, "calico", ptp, kubectl(t, "get", "node", node, "-o", "jsonpath={.spec.podCIDR}"))
	}
	apply(t, fmt.Sprintf(canal, image))
	ready(t)
	ns := namespace(t, "canal")
	stays := start(t, ns, "", "m@master")
	apply(t, `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: canal}
spec:
  replicas: 3
  selector: {matchLabels: {app: web-many}}
  template:
    metadata: {labels: {app: web-many}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: web, image: "localhost/agnhost:cluster", args: [netexec, --http-port=8080], readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}}]
`)
	kubectl(t, "-n", ns, "rollout", "status", "deployment/web", "--timeout", "3m")
	reachAll := func(what string) {
		t.Helper()
		kubectl(t, "-n", ns, "rollout", "status", "deployment/web", "--timeout", "3m")
		var list struct {
			Items []struct {
				Metadata struct{ Name, DeletionTimestamp string }
				Spec     struct{ NodeName string }
				Status   struct{ PodIP string }
			}
		}
		if err := json.Unmarshal([]byte(kubectl(t, "-n", ns, "get", "pods", "-l", "app=web-many", "-o", "json")), &list); err != nil {
			t.Fatal(err)
		}
		var where []string
		for _, p := range list.Items {
			if p.Metadata.DeletionTimestamp == "" {
				stays[0].reaches(t, "http://"+p.Status.PodIP+":8080/hostname", p.Metadata.Name)
				where = append(where, p.Spec.NodeName)
			}
		}
		t.Logf("%s: m on master reaches pods on %s", what, strings.Join(where, ", "))
	}
	reachAll("canal")
	for _, node := range []string{"worker01", "worker02"} {
		since := time.Now()
		move(t, "to-towpath", "--node", node)
		t.Logf("%s moved in %.0f s", node, time.Since(since).Seconds())
		reachAll("half canal, half towpath")
		if out := in(t, node, "bash", "-c", "iptables-nft-save; ls /etc/cni/net.d"); strings.Contains(out, "cali") || strings.Contains(out, "FLANNEL") || strings.Contains(out, "10-canal.conflist\n") {
			t.Errorf("%s has of canal's:\n%s", node, out)
		}
	}
	move(t, "to-towpath", "--node", "master") // the pod without an owner is drained away
	move(t, "finish")
	stays = start(t, ns, "", "m@master")
	reachAll("towpath")
	if out, err := try("api", "kubectl", "-n", "kube-system", "get", "ds/canal"); err == nil {
		t.Errorf("still there: %s", out)
	}
}
