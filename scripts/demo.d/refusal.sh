# shellcheck shell=bash
# A back end that lacks a family: it is said, and nothing is half done.

refusal() {
	title "Back end $backend has no $lacks: refused, and said why"
	for n in master01 worker01 worker02; do supervise "$n"; done
	check "the stage is held, it does not crash again and again" soon held
	on worker01 towpath status || true
	printf '\n[worker01] subnet-lease plan\n'
	on worker01 subnet-lease plan --node worker01 --store "$store" >$work/refused 2>&1 || echo "exit $?" >>$work/refused
	sed 's/^/    /' $work/refused
	check "file and key are named" grep -oF '"/etc/towpath/net-conf.json": key "Backend.Type"' $work/refused
	check "it says what to do" grep -o 'hint: .*' $work/refused
	check "it ends with 78, bad configuration" grep -x 'exit 78' $work/refused
	check "no pod can start" refuses on worker01 test -e /etc/cni/net.d/10-towpath.conflist
}

held() { on worker01 jq -er 'select(.state == "held") | .lastExit' /run/towpath/supervisor/subnet-lease.json; }
