package objects

import (
	"fmt"
	"net/netip"
	"strings"
)

// Node is one node of a cluster whose network is flannel's or ours: 10.0.0.0/8, a /24 a node, VXLAN.
type Node struct{ Number int }

// Name is the node's.
func (n Node) Name() string { return fmt.Sprintf("node-%d", n.Number) }

// Subnet is its podCIDR.
func (n Node) Subnet() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n.Number >> 8), byte(n.Number), 0}), 24)
}

// Address is where it is reached; number 0 is at 192.168.7.1.
func (n Node) Address() netip.Addr {
	if n.Number == 0 {
		return netip.AddrFrom4([4]byte{192, 168, 7, 1})
	}
	return netip.AddrFrom4([4]byte{172, 16, byte(n.Number >> 8), byte(n.Number)})
}

// MAC is its VTEP's.
func (n Node) MAC() string { return fmt.Sprintf("02:00:0a:00:%02x:%02x", n.Number>>8, n.Number&255) }

// Annotations are what flannel, and we, publish of it.
func (n Node) Annotations() string {
	return fmt.Sprintf(`{"flannel.alpha.coreos.com/backend-data":"{\"VNI\":1,\"VtepMAC\":\"%s\"}","flannel.alpha.coreos.com/backend-type":"vxlan",
"flannel.alpha.coreos.com/kube-subnet-manager":"true","flannel.alpha.coreos.com/public-ip":"%s"}`, n.MAC(), n.Address())
}

// Stored is the node as an API server keeps it in etcd, with ten images (a kubelet lists fifty at most), and annotations
// unless it is number 0, which has not published anything.
func (n Node) Stored() string {
	annotations := n.Annotations()
	if n.Number == 0 {
		annotations = `{"node.alpha.kubernetes.io/ttl":"0"}` // as the controller manager does: flanneld cannot take a node without any
	}
	var images []string
	for i := range 10 {
		images = append(images, fmt.Sprintf(`{"names":["registry.example/team/image-%d@sha256:5d3b7f0a1f0f4a1a6c9b8d7e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a","registry.example/team/image-%[1]d:v1.14.3"],"sizeBytes":%d}`, i, 100_000_000+i))
	}
	condition := func(name, status, reason string) string {
		return fmt.Sprintf(`{"type":%q,"status":%q,"lastHeartbeatTime":"2026-11-23T10:00:00Z","lastTransitionTime":"2026-11-01T10:00:00Z","reason":%q,"message":"kubelet says so"}`, name, status, reason)
	}
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Node","metadata":{"name":%[1]q,"uid":%[2]q,"creationTimestamp":"2026-11-01T10:00:00Z","annotations":%[3]s,
"labels":{"beta.kubernetes.io/arch":"amd64","beta.kubernetes.io/os":"linux","kubernetes.io/arch":"amd64","kubernetes.io/hostname":%[1]q,"kubernetes.io/os":"linux","topology.kubernetes.io/zone":"zone-a"},
"managedFields":[{"manager":"kubelet","operation":"Update","apiVersion":"v1","time":"2026-11-23T10:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:status":{"f:conditions":{"k:{\"type\":\"DiskPressure\"}":{"f:lastHeartbeatTime":{}},"k:{\"type\":\"MemoryPressure\"}":{"f:lastHeartbeatTime":{}},"k:{\"type\":\"PIDPressure\"}":{"f:lastHeartbeatTime":{}},"k:{\"type\":\"Ready\"}":{"f:lastHeartbeatTime":{},"f:lastTransitionTime":{},"f:message":{},"f:reason":{},"f:status":{}}},"f:images":{}}},"subresource":"status"}]},
"spec":{"podCIDR":"%[4]s","podCIDRs":["%[4]s"],"providerID":"example://zone-a/%[1]s"},
"status":{"capacity":{"cpu":"16","ephemeral-storage":"203056560Ki","memory":"65805128Ki","pods":"110"},"allocatable":{"cpu":"15800m","ephemeral-storage":"187136925423","memory":"63605128Ki","pods":"110"},
"conditions":[%[5]s],"addresses":[{"type":"InternalIP","address":"%[6]s"},{"type":"Hostname","address":%[1]q}],"daemonEndpoints":{"kubeletEndpoint":{"Port":10250}},
"nodeInfo":{"machineID":"%[2]s","systemUUID":"%[2]s","bootID":"%[2]s","kernelVersion":"6.18.0","osImage":"Debian GNU/Linux 12 (bookworm)","containerRuntimeVersion":"containerd://1.6.20","kubeletVersion":"v1.34.4","kubeProxyVersion":"","operatingSystem":"linux","architecture":"amd64"},
"images":[%[7]s]}}`, n.Name(), uid(n.Name()), annotations, n.Subnet(), strings.Join([]string{
		condition("MemoryPressure", "False", "KubeletHasSufficientMemory"), condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
		condition("PIDPressure", "False", "KubeletHasSufficientPID"), condition("Ready", "True", "KubeletReady"),
	}, ","), n.Address(), strings.Join(images, ","))
}
