# shellcheck shell=bash
# The demo's faults: break one thing, measure until it is right again.

now_ms() { echo $(($(date +%s%N) / 1000000)); }

# repaired WHAT PROBE…: prints how long until the probe holds; 30 s is the end of patience.
repaired() {
	local what=$1 start
	shift
	start=$(now_ms)
	until "$@" >/dev/null 2>&1; do
		if (($(now_ms) - start > 30000)); then
			check "$what" false
			return
		fi
		wait_ms 5
	done
	check "$what" echo "$(($(now_ms) - start)) ms"
}

has_route() { [[ $(on worker02 ip route show 10.244.1.0/24) == *"proto"* ]] && in_pod dev/pod1 ping -c 1 -W 1 "${pod_ip["prod/pod1"]}"; }
policed() { on worker02 nft list chain inet towpath-policy forward && on worker02 nft list chain bridge towpath-policy prerouting; }
process_of() { on worker02 cat "/run/towpath/supervisor/$1.json" | jq -e "select(.state == \"ready\") | .pid"; }
restarted() { local p && p=$(process_of "$1") && [[ $p != "$2" ]]; }

# under_ping COMMAND…: runs it while dev/pod1 pings prod/pod1 100 times a second; prints what was lost.
under_ping() {
	in_pod dev/pod1 ping -i 0.01 -c 300 -W 2 "${pod_ip["prod/pod1"]}" >$work/ping &
	local ping=$! lost
	wait_ms 300
	"$@" >/dev/null
	wait "$ping" || true
	lost=$(awk '/packets transmitted/ {print $1 - $4 " of " $1 " packets lost"}' $work/ping)
	echo "$lost"
	[[ $lost == "0 of 300"* ]]
}

kill_tool() { # kill_tool STAGE: its process, and wait for the next one
	local pid
	pid=$(process_of "$1")
	kill -KILL "$pid"
	for ((i = 0; i < 200; i++)); do if restarted "$1" "$pid"; then return; else wait_ms 10; fi; done
	return 1
}

kill_supervisor() {
	kill -KILL "$(supervisor worker02)"
	wait_ms 300
	supervise worker02
	for ((i = 0; i < 500; i++)); do if on worker02 towpath status; then return; else wait_ms 10; fi; done
	return 1
}

repairs() {
	local dev=flannel.1 setup=vxlan-setup stage
	if [[ $backend == host-gw ]]; then dev=eth0 setup=hostgw-setup; fi
	on worker02 ip route del 10.244.1.0/24
	repaired "ip route del 10.244.1.0/24" has_route
	on worker02 ip link set $dev down
	[[ $backend == host-gw ]] && on worker02 ip link set $dev up && on worker02 ip route add default via 192.168.100.1
	repaired "ip link set $dev down" has_route
	if [[ $backend == vxlan ]]; then
		on worker02 ip link del $dev
		repaired "ip link del $dev" has_route
		on worker02 bridge fdb del "$(on worker02 cat /run/towpath/peers/worker01.json | jq -r .backend.data.VtepMAC)" dev $dev dst "${node_ip[worker01]}"
		repaired "bridge fdb del, of worker01" has_route
	fi
	on worker02 nft delete table inet towpath-masq
	repaired "nft delete table inet towpath-masq" on worker02 nft list table inet towpath-masq
	on worker02 nft flush ruleset
	repaired "nft flush ruleset" policed
	check "prod/pod-busybox is kept out of dev/pod1 as before" hangs prod/pod-busybox "${pod_ip["dev/pod1"]}"
	for stage in subnet-lease $setup route-sync masq-sync policy-load; do
		check "kill -9 $stage, under ping at 100/s" under_ping kill_tool $stage
	done
	check "kill -9 the supervisor and start another, under ping" under_ping kill_supervisor
	check "pods still reach each other" answers dev/pod1 "${pod_ip["prod/pod1"]}" "prod/pod1 ${pod_ip["dev/pod1"]}"
}

# takedown undoes pods and nodes the way they were made and looks at what is left in a node.
takedown() {
	local p n name
	for p in "${!pod_ip[@]}"; do
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
		on "$1" ip route show proto 116
		on "$1" nft list tables | grep towpath || true
		on "$1" find /run/towpath /etc/cni/net.d -type f -not -path '*/lock/*' || true
	)
	[[ -z $left ]] || { echo "$left" && return 1; }
	echo nothing
}
