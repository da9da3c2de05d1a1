# shellcheck shell=bash
# The demo's checks of what a pod can reach.
passed=0

# check WHAT COMMAND…: runs the command, prints what it printed.
check() {
	local what=$1 out
	shift
	if out=$("$@" 2>&1); then
		passed=$((passed + 1))
		printf 'passed  %-58s %s\n' "$what" "$(tail -n 1 <<<"$out")"
	else
		failed=$((failed + 1))
		printf 'FAILED  %-58s %s\n' "$what" "$out"
	fi
}

pings() { # pings POD ADDRESS [OPTIONS]: the round trip
	in_pod "$1" ping -c 3 -i 0.1 -W 2 "${@:3}" "$2" | awk -F / 'END {if ($5 == "") exit 1; print $5 " ms"}'
}
refuses() { if "$@" >/dev/null 2>&1; then return 1; else echo "refused, as it must be"; fi; }
get() { in_pod "$1" curl -sS -m 5 "http://$2/"; }

answers() { # answers POD URL TEXT: what the pod's curl must print
	local out
	out=$(get "$1" "$2")
	[[ $out == "$3" ]] || { echo "$out instead of $3" && return 1; }
	echo "$out"
}

transfer() {
	in_pod "$1" curl -sS -m 60 -o /dev/null -w '%{size_download} bytes, %{speed_download} bytes/s' "http://$2/bytes?n=200000000"
}

# on_the_wire FILTER: the uplink of worker01 carries such packets while prod/pod1 is pinged from worker02.
on_the_wire() {
	on worker01 timeout 10 tcpdump -i eth0 -c 3 -nn "$1" >$work/wire 2>$work/wire.err &
	local dump=$!
	until grep -q listening $work/wire.err 2>/dev/null; do wait_ms 20; done
	in_pod dev/pod1 ping -c 4 -i 0.1 -W 2 "${pod_ip["prod/pod1"]}" >/dev/null || true
	wait "$dump" || return 1
	head -n 1 $work/wire | cut -c 17-80
}

traffic() {
	local dev=${pod_ip["dev/pod1"]} prod=${pod_ip["prod/pod1"]} dns=${pod_ip["kube-system/coredns"]} mtu
	mtu=$(in_pod dev/pod1 cat /sys/class/net/eth0/mtu)
	check "the subnets are 10.244.0, .1 and .2" test "${dns%.*} ${prod%.*} ${dev%.*}" = "10.244.0 10.244.1 10.244.2"
	check "dev/pod1 pings prod/pod1, on another node" pings dev/pod1 "$prod"
	check "prod/pod-busybox pings coredns, on the master" pings prod/pod-busybox "$dns"
	check "prod/pod1 pings prod/pod-busybox, on its own node" pings prod/pod1 "${pod_ip["prod/pod-busybox"]}"
	check "worker01 itself pings dev/pod1" on worker01 ping -c 1 -W 2 "$dev"
	check "dev/pod1 curls prod/pod1, which sees the pod's address" answers dev/pod1 "$prod" "prod/pod1 $dev"
	check "prod/pod1 curls coredns, which sees the pod's address" answers prod/pod1 "$dns" "kube-system/coredns $prod"
	check "dev/pod1 to outside: the node's address is seen" answers dev/pod1 192.168.100.1 "outside ${node_ip[worker02]}"
	check "hostPort 8080 of worker02, from outside" curl -sS -m 5 http://192.168.100.12:8080/
	check "hostPort 8080 of worker02, from prod/pod1" get prod/pod1 192.168.100.12:8080
	check "hairpin: dev/pod1 to itself through its hostPort" get dev/pod1 192.168.100.12:8080
	check "a packet of $mtu bytes crosses whole" pings dev/pod1 "$prod" -M "do" -s $((mtu - 28))
	check "a packet of $((mtu + 1)) bytes does not" refuses pings dev/pod1 "$prod" -M "do" -s $((mtu - 27))
	check "200 MB from prod/pod1 to dev/pod1" transfer dev/pod1 "$prod"
	case $backend in
	vxlan) check "the underlay carries VXLAN, port 8472" on_the_wire "udp port 8472" ;;
	*) check "the underlay carries the pods' packets as they are" on_the_wire "icmp and host $dev" ;;
	esac
}
