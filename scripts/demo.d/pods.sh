# shellcheck shell=bash
# Pods of the demo, made as kubelet's runtime makes them: a namespace, then CNI ADD.
declare -A pod_node

# add_pod NODE NAMESPACE NAME [CAPABILITIES]: what kubelet's runtime does, then a small web server in it.
add_pod() {
	local name=$2-$3 ips ip family
	pod_object "$1" "$2" "$3"
	on "$1" ip netns add "$name"
	on "$1" ip netns exec "$name" ip link set lo up
	ips=$(CNI_PATH=$PWD/bin CAP_ARGS=${4:-} \
		CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAMESPACE=$2;K8S_POD_NAME=$3;K8S_POD_UID=$name" \
		on "$1" cnitool add cbr0 "/run/netns/$name" | jq -r '.ips[].address | sub("/.*"; "")')
	for ip in $ips; do
		family=ipv4
		[[ $ip != *:* ]] || family=ipv6
		address["$2/$3 $family"]=$ip
	done
	pod_node["$2/$3"]=$1
	# shellcheck disable=SC2086 # one word each
	pod_object "$1" "$2" "$3" $ips
	on "$1" ip netns exec "$name" pod --name "$2/$3" >"$work/$name.log" 2>&1 &
}

# at WHO COMMAND…: where WHO is a pod, a node, or outside of them.
at() {
	case $1 in
	outside) "${@:2}" ;;
	*/*) on "${pod_node[$1]}" ip netns exec "${1/\//-}" "${@:2}" ;;
	*) on "$@" ;;
	esac
}

pods() {
	local p
	printf '%-12s %-12s %-34s %s\n' NAMESPACE NAME IP NODE
	for p in dev/pod1 prod/pod1 prod/pod-busybox kube-system/coredns; do
		printf '%-12s %-12s %-34s %s\n' "${p%/*}" "${p#*/}" "$(addresses "$p")" "${pod_node[$p]}"
	done
}
