# shellcheck shell=bash
# The demo's faults: break one thing, measure until it is right again.

now_ms() { echo $(($(date +%s%N) / 1000000)); }

# mends PROBE COMMAND…: prints how long after the command the probe holds; 30 s is the end of patience.
mends() {
	local start
	"${@:2}" >/dev/null
	start=$(now_ms)
	until "$1" >/dev/null 2>&1; do
		(($(now_ms) - start < 30000)) || return 1
		wait_ms 5
	done
	echo "$(($(now_ms) - start)) ms"
}

# What breaks, in $family, on worker02.
no_route() { on worker02 ip -"${family#ipv}" route del "$(subnet worker01)"; }
link_down() {
	on worker02 ip link set "${device[$family]}" down
	[[ ${device[$family]} != eth0 ]] || plug_in worker02
}
no_link() { on worker02 ip link del "${device[$family]}"; }
no_fdb() {
	local key=data mac
	[[ $family == ipv4 ]] || key=dataV6
	mac=$(on worker02 jq -r ".backend.$key.VtepMAC" /run/towpath/peers/worker01.json)
	on worker02 bridge fdb del "$mac" dev "${device[$family]}" dst "$(ip_of worker01)"
}
no_table() { on worker02 nft delete table inet towpath-masq; }
no_rules() { on worker02 nft flush ruleset; }

# What is right again.
routed() { [[ $(on worker02 ip -"${family#ipv}" route show "$(subnet worker01)") == *"proto"* ]] && at dev/pod1 ping -c 1 -W 1 "$(ip_of prod/pod1)"; }
masqueraded() { on worker02 nft list table inet towpath-masq; }
policed() { on worker02 nft list chain inet towpath-policy forward && on worker02 nft list chain bridge towpath-policy prerouting; }
process_of() { on worker02 cat "/run/towpath/supervisor/$1.json" | jq -e "select(.state == \"ready\") | .pid"; }
restarted() { local p && p=$(process_of "$1") && [[ $p != "$2" ]]; }

# under_ping MOST COMMAND…: runs it while dev/pod1 pings prod/pod1 100 times a second in each family; prints what was lost. What comes
# after the last answer was on its way when ping ended, which waits no longer than twice the longest round trip; it may be 10.
under_ping() {
	local pings=() most=$1
	shift
	for family in "${families[@]}"; do
		at dev/pod1 ping -i 0.01 -c 300 -W 2 "$(ip_of prod/pod1)" >"$work/ping.$family" &
		pings+=($!)
	done
	wait_ms 300
	"$@" >/dev/null
	wait "${pings[@]}" || true
	awk -v families=${#families[@]} -v most="$most" -F 'icmp_seq=| ' '
		/bytes from/ {back++; last[FILENAME] = $6 > last[FILENAME] ? $6 : last[FILENAME]}
		/packets transmitted/ {sent += $1}
		END {for (f in last) told += last[f]
			print told - back " of " told " packets lost"; exit !told || told - back > most * families || sent - told > 10 * families}' $work/ping.*
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
	local stage
	each "ip route del, of worker01's subnet" mends routed no_route
	each "ip link set down, of the device" mends routed link_down
	[[ -z $tunnel ]] || each "ip link del, of the device" mends routed no_link
	[[ $backend != vxlan ]] || each "bridge fdb del, of worker01" mends routed no_fdb
	check "nft delete table inet towpath-masq" mends masqueraded no_table
	check "nft flush ruleset" mends policed no_rules
	each "prod/pod-busybox is kept out of dev/pod1 as before" hangs prod/pod-busybox dev/pod1
	for stage in subnet-lease $setup route-sync masq-sync policy-load; do
		check "kill -9 $stage, under ping at 100/s" under_ping "$([[ $stage == "$setup" ]] && echo "$may_lose" || echo 0)" kill_tool $stage
	done
	check "kill -9 the supervisor and start another, under ping" under_ping 0 kill_supervisor
	each "pods still reach each other" answers dev/pod1 prod/pod1
}
