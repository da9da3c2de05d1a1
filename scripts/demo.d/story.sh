# shellcheck shell=bash
# The demo's story of two namespaces, dev and prod: each policy, what is expected of it, and what is.

story() {
	expect "no policy: prod/pod1 curls dev/pod1" answers prod/pod1 dev/pod1
	policy dev deny-all-ingress <<<$'  podSelector: {}\n  policyTypes: [Ingress]'
	expect "prod/pod1 curls dev/pod1: it hangs" hangs prod/pod1 dev/pod1
	expect "dev/pod1 curls prod/pod1: an answer" answers dev/pod1 prod/pod1
	each "towpath denied says why" denial prod/pod1 dev/pod1 "isolated by dev/deny-all-ingress"
	policy dev allow-all-ingress <<<$'  podSelector: {}\n  ingress: [{}]'
	expect "prod/pod1 curls dev/pod1: an answer" answers prod/pod1 dev/pod1
	no_policy dev allow-all-ingress
	expect "prod/pod1 curls dev/pod1: it hangs" hangs prod/pod1 dev/pod1
	myapp "{protocol: TCP, port: 80}"
	expect "prod/pod1 curls dev/pod1: an answer" answers prod/pod1 dev/pod1
	expect "prod/pod-busybox, the exception: it hangs" hangs prod/pod-busybox dev/pod1
	expect "prod/pod1 curls port 443: it hangs" hangs prod/pod1 dev/pod1:443
	explains "allow-myapp-ingress ingress[0] would allow TCP 80, not 443" --from prod/pod1 --to dev/pod1 --port 443/TCP
	myapp "{protocol: TCP, port: 80}, {protocol: TCP, port: 443}"
	expect "prod/pod1 curls port 443: refused, not dropped" refused prod/pod1 dev/pod1:443
	policy prod deny-all-egress <<<$'  podSelector: {}\n  policyTypes: [Egress]'
	expect "prod/pod-busybox pings coredns: no answer" unanswered prod/pod-busybox kube-system/coredns
	expect "dev/pod1 curls prod/pod1: an answer" answers dev/pod1 prod/pod1
	policy prod allow-all-egress <<<$'  podSelector: {}\n  policyTypes: [Egress]\n  egress: [{}]'
	expect "prod/pod-busybox pings coredns" pings prod/pod-busybox kube-system/coredns
}

# myapp PORTS: from all pods but prod/pod-busybox, by address.
myapp() {
	local blocks=
	for family in "${families[@]}"; do
		blocks+="${blocks:+, }{ipBlock: {cidr: ${network[$family]}, except: [$(ip_of prod/pod-busybox)/${full[$family]}]}}"
	done
	policy dev allow-myapp-ingress <<-TEXT
		  podSelector: {matchLabels: {app: myapp}}
		  ingress:
		  - from: [$blocks]
		    ports: [$1]
	TEXT
}
