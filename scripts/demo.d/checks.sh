# shellcheck shell=bash
# The demo's checks of what a pod can reach. They name pods, nodes and `outside`, and run in one family at a time.
declare -A address # "dev/pod1 ipv6", "worker01 ipv4", "outside ipv4"
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

# each WHAT COMMAND…: a check in each family, which is $family meanwhile.
each() {
	local tag=
	for family in "${families[@]}"; do
		[[ ${#families[@]} == 1 ]] || tag="IPv${family#ipv}: "
		check "$tag$1" "${@:2}"
	done
}

ip_of() { echo "${address["$1 $family"]}"; }
addresses() { for family in "${families[@]}"; do ip_of "$1"; done | paste -sd ' '; }

# url WHO[:PORT]
url() {
	local ip port=
	ip=$(ip_of "${1%%:*}")
	[[ $1 != *:* ]] || port=:${1#*:}
	[[ $family == ipv4 ]] || ip=[$ip]
	echo "http://$ip$port"
}

pings() { # pings FROM TO [OPTIONS]: the round trip
	at "$1" ping -c 3 -i 0.1 -W 2 "${@:3}" "$(ip_of "$2")" | awk -F / 'END {if ($5 == "") exit 1; print $5 " ms"}'
}
refuses() { if "$@" >/dev/null 2>&1; then return 1; else echo "refused, as it must be"; fi; }

# says FROM TO[:PORT] NAME WHO: NAME must answer FROM, and have seen the address of WHO.
says() {
	local out
	out=$(at "$1" curl -sS -m 5 "$(url "$2")/")
	[[ $out == "$3 $(ip_of "$4")" ]] || { echo "$out instead of $3 $(ip_of "$4")" && return 1; }
	echo "$out"
}
answers() { says "$1" "$2" "$2" "$1"; } # answers FROM TO

transfer() {
	at "$1" curl -sS -m 60 -o /dev/null -w '%{size_download} bytes, %{speed_download} bytes/s' "$(url "$2")/bytes?n=200000000"
}

# on_the_wire: the uplink of worker01 carries what it should while prod/pod1 is pinged from worker02.
on_the_wire() {
	local what=${filter[$family]}
	[[ $what != icmp* ]] || what+=" and host $(ip_of dev/pod1)"
	rm -f $work/wire.err
	on worker01 timeout 10 tcpdump -i eth0 -c 3 -nn "$what" >$work/wire 2>$work/wire.err &
	local dump=$!
	until grep -q listening $work/wire.err 2>/dev/null; do wait_ms 20; done
	at dev/pod1 ping -c 4 -i 0.1 -W 2 "$(ip_of prod/pod1)" >/dev/null || true
	wait "$dump" || return 1
	head -n 1 $work/wire | cut -c 17-100
}

# spells DEVICE FILTER: whether what dev/pod1 spells out in pings of prod/pod1 can be read in what worker01 receives there.
spells() {
	rm -f $work/wire.err
	on worker01 timeout 10 tcpdump -i "$1" -c 3 -U -w $work/spelt -n "$2" 2>$work/wire.err >/dev/null &
	local dump=$!
	until grep -q listening $work/wire.err 2>/dev/null; do wait_ms 20; done
	at dev/pod1 ping -c 4 -i 0.1 -W 2 -p 746f7770617468 "$(ip_of prod/pod1)" >/dev/null || return 1
	wait "$dump" || return 1
	grep -q towpathtowpath $work/spelt && echo readable || echo unreadable
}
unreadable() {
	local inside outside
	inside=$(spells "${device[$family]}" "icmp or icmp6") && outside=$(spells eth0 "${filter[$family]}") || return 1
	echo "$inside, $outside"
	[[ "$inside $outside" == "readable unreadable" ]]
}

# subnet NODE: of the lease.
subnet() { on "$1" jq -er ".subnet.$family" /run/towpath/lease.json; }
first_three() {
	local all
	all=$(for n in master01 worker01 worker02; do subnet "$n"; done | paste -sd ' ')
	echo "$all"
	[[ $all == "10.244.0.0/24 10.244.1.0/24 10.244.2.0/24" || $all == "fd00:10:244::/64 fd00:10:244:1::/64 fd00:10:244:2::/64" ]]
}
