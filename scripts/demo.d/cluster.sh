# shellcheck shell=bash
# Nodes of the demo: namespaces, and the commands an administrator would run.
declare -A node_pid number
store=file:$work/store

title() { printf '\n\n== %s\n\n' "$*"; }

# underlay makes the network between the nodes: a bridge that is also the world outside.
underlay() {
	mount -t tmpfs tmpfs $work
	mkdir -p $work/etc/{upper,work} $work/var/{upper,work} $work/store
	# /etc and /var/lib as they are, with what is written to them kept here.
	mount -t overlay overlay -o lowerdir=/etc,upperdir=$work/etc/upper,workdir=$work/etc/work /etc
	mount -t overlay overlay -o lowerdir=/var/lib,upperdir=$work/var/upper,workdir=$work/var/work /var/lib
	mount -t tmpfs tmpfs /run
	mkdir -p /etc/cni/net.d /etc/towpath /var/lib/cni /var/lib/towpath
	ip link set lo up
	ip link add underlay type bridge
	ip link set underlay up
	for family in "${families[@]}"; do
		ip -"${family#ipv}" addr add "${underlay[$family]}1/${length[$family]}" dev underlay $(nodad)
		address["outside $family"]=${underlay[$family]}1
	done
	pod --name outside >$work/outside.log 2>&1 &
}

nodad() { [[ $family == ipv4 ]] || echo nodad; } # no second of being tentative

# node NAME NUMBER: a network namespace with an uplink, and a mount namespace in which /run, /etc/cni,
# /var/lib/cni and /var/lib/towpath are its own.
node() {
	ip netns add "$1"
	ip link add "up-$1" type veth peer name eth0 netns "$1"
	ip link set "up-$1" master underlay up
	# shellcheck disable=SC2016 # the inner shell expands
	ip netns exec "$1" unshare --mount --propagation private bash -c '
		for d in /run /etc/cni /var/lib/cni /var/lib/towpath; do mount -t tmpfs tmpfs $d; done
		mkdir -p /etc/cni/net.d /run/netns /run/node
		exec sleep infinity' &
	node_pid[$1]=$!
	number[$1]=$2
	echo $! >"$work/$1.pid"
	until on "$1" test -d /run/node 2>/dev/null; do wait_ms 10; done # it is in its namespaces
	on "$1" ip link set lo up
	plug_in "$1"
}

# plug_in NODE: its uplink, as the machine's own network configuration has it.
plug_in() {
	on "$1" ip link set eth0 up
	for family in "${families[@]}"; do
		address["$1 $family"]=${underlay[$family]}${number[$1]}
		on "$1" ip addr replace "${address["$1 $family"]}/${length[$family]}" dev eth0 $(nodad)
		on "$1" ip route replace default via "${address["outside $family"]}"
	done
}

on() { nsenter -t "${node_pid[$1]}" -m -n --wd="$PWD" -- "${@:2}"; }

exec {tick}<> <(:) # nothing ever comes through it, so that read -t waits without a process
wait_ms() { read -rt "$(printf '0.%03d' "$1")" -u "$tick" || true; }

# supervise NODE: in the background; its process is in $work/NODE.supervisor.
supervise() {
	(
		exec >>"$work/$1.log" 2>&1 </dev/null # nothing of a pipe may stay open in here
		export TOWPATH_NODE=$1 TOWPATH_STORE=$store TOWPATH_CNI_BIN_DIR=$PWD/bin
		exec nsenter -t "${node_pid[$1]}" -m -n --wd="$PWD" -- towpath supervise --stages packaging/stages.d
	) &
	disown
	until on "$1" test -s /run/towpath/lock/towpath && [[ $(supervisor "$1") != "$(cat "$work/$1.supervisor" 2>/dev/null)" ]]; do wait_ms 5; done
	supervisor "$1" >"$work/$1.supervisor"
}

supervisor() { on "$1" awk '{print $1}' /run/towpath/lock/towpath; }

# gone PID: waits for the process to end, 10 s at most.
gone() {
	local i
	for ((i = 0; i < 1000; i++)); do if kill -0 "$1" 2>/dev/null; then wait_ms 10; else return 0; fi; done
	return 1
}

ready() {
	local i
	for ((i = 0; i < 600; i++)); do
		on "$1" test -e /etc/cni/net.d/10-towpath.conflist && return
		wait_ms 50
	done
	echo "demo: $1 is not ready after 30 s" >&2
	on "$1" towpath status --stages packaging/stages.d >&2 || true
	return 1
}

# knows_all NODE: waits until it has routes to the two others.
knows_all() {
	local i
	for ((i = 0; i < 600; i++)); do
		on "$1" jq -e '.peers == 2' /run/towpath/routes.json >/dev/null && return
		wait_ms 50
	done
	echo "demo: $1 does not know the others after 30 s" >&2
	return 1
}
