# shellcheck shell=bash
# What the demo's pods can reach.

traffic() {
	local mtu
	mtu=$(at dev/pod1 cat /sys/class/net/eth0/mtu)
	each "the subnets are the first three, in order" first_three
	each "dev/pod1 pings prod/pod1, on another node" pings dev/pod1 prod/pod1
	each "prod/pod-busybox pings coredns, on the master" pings prod/pod-busybox kube-system/coredns
	each "prod/pod1 pings prod/pod-busybox, on its own node" pings prod/pod1 prod/pod-busybox
	each "worker01 itself pings dev/pod1" pings worker01 dev/pod1
	each "dev/pod1 curls prod/pod1, which sees the pod's address" answers dev/pod1 prod/pod1
	each "prod/pod1 curls coredns, which sees the pod's address" answers prod/pod1 kube-system/coredns
	each "dev/pod1 to outside: the node's address is seen" says dev/pod1 outside outside worker02
	each "hostPort 8080 of worker02, from outside" says outside worker02:8080 dev/pod1 outside
	each "hostPort 8080 of worker02, from prod/pod1" says prod/pod1 worker02:8080 dev/pod1 worker01
	each "hairpin: dev/pod1 to itself through its hostPort" hairpin
	each "a packet of $mtu bytes crosses whole" sized "$mtu"
	each "a packet of $((mtu + 1)) bytes does not" refuses sized $((mtu + 1))
	each "a ping of 4000 bytes crosses in fragments" pings dev/pod1 prod/pod1 -s 4000
	each "200 MB from prod/pod1 to dev/pod1" transfer dev/pod1 prod/pod1
	each "the underlay carries $carries" on_the_wire
	[[ -z $secret ]] || each "what a pod sends is read in the tunnel's device, not on the wire" unreadable
}

# hairpin: the pod sees the bridge, which masquerades it.
hairpin() {
	address["gateway $family"]=$(at dev/pod1 ip -j -"${family#ipv}" route show default | jq -r '.[0].gateway')
	says dev/pod1 worker02:8080 dev/pod1 gateway
}

# sized BYTES: from pod to pod on another node, with its IP (20 or 40 bytes) and ICMP (8 bytes) headers, unfragmented.
sized() {
	local headers=28
	[[ $family == ipv4 ]] || headers=48
	pings dev/pod1 prod/pod1 -M "do" -s $(($1 - headers))
}
