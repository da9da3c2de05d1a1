# shellcheck shell=bash
# The end of the demo.

# takedown undoes pods and nodes the way they were made and looks at what is left in a node.
takedown() {
	local p n name
	for p in "${!pod_node[@]}"; do
		name=${p/\//-}
		CNI_PATH=$PWD/bin CAP_ARGS='' on "${pod_node[$p]}" cnitool del cbr0 "/run/netns/$name"
		on "${pod_node[$p]}" ip netns pids "$name" | xargs -r kill
		on "${pod_node[$p]}" ip netns del "$name"
	done
	for n in master01 worker01 worker02; do
		p=$(supervisor "$n")
		kill -TERM "$p"
		gone "$p"
		on "$n" towpath down --stages packaging/stages.d >>"$work/$n.log" 2>&1
		check "$n: no link, route, table or file of ours is left" clean "$n"
	done
}

clean() {
	local left
	left=$(
		on "$1" ip -br link | awk '$1 != "lo" && $1 !~ /^eth0/ {print "link " $1}'
		on "$1" ip -4 route show proto 116
		on "$1" ip -6 route show proto 116
		on "$1" nft list tables | grep towpath || true
		on "$1" find /run/towpath /etc/cni/net.d -type f -not -path '*/lock/*' || true
	)
	[[ -z $left ]] || { echo "$left" && return 1; }
	echo nothing
}
