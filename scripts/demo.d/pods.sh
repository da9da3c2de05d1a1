# shellcheck shell=bash
# Pods of the demo, made as kubelet's runtime makes them: a namespace, then CNI ADD.
declare -A pod_ip pod_node

# add_pod NODE NAMESPACE NAME [CAPABILITIES]: what kubelet's runtime does, then a small web server in it.
add_pod() {
	local name=$2-$3
	pod_object "$1" "$2" "$3"
	on "$1" ip netns add "$name"
	on "$1" ip netns exec "$name" ip link set lo up
	pod_ip["$2/$3"]=$(CNI_PATH=$PWD/bin CAP_ARGS=${4:-} \
		CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAMESPACE=$2;K8S_POD_NAME=$3;K8S_POD_UID=$name" \
		on "$1" cnitool add cbr0 "/run/netns/$name" | jq -r '.ips[0].address | sub("/.*"; "")')
	pod_node["$2/$3"]=$1
	pod_object "$1" "$2" "$3" "${pod_ip["$2/$3"]}"
	on "$1" ip netns exec "$name" pod --name "$2/$3" >"$work/$name.log" 2>&1 &
}

in_pod() { on "${pod_node[$1]}" ip netns exec "${1/\//-}" "${@:2}"; }

pods() {
	local p
	printf '%-12s %-12s %-14s %s\n' NAMESPACE NAME IP NODE
	for p in dev/pod1 prod/pod1 prod/pod-busybox kube-system/coredns; do
		printf '%-12s %-12s %-14s %s\n' "${p%/*}" "${p#*/}" "${pod_ip[$p]}" "${pod_node[$p]}"
	done
}
