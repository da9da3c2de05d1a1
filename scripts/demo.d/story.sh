# shellcheck shell=bash
# The demo's story of two namespaces, dev and prod: each policy, what is expected of it, and what is.

story() {
	local dev=${pod_ip["dev/pod1"]} prod=${pod_ip["prod/pod1"]} dns=${pod_ip["kube-system/coredns"]}
	local except=${pod_ip["prod/pod-busybox"]}
	expect "no policy: prod/pod1 curls dev/pod1" answers prod/pod1 "$dev" "dev/pod1 $prod"
	policy dev deny-all-ingress <<<$'  podSelector: {}\n  policyTypes: [Ingress]'
	expect "prod/pod1 curls dev/pod1: it hangs" hangs prod/pod1 "$dev"
	expect "dev/pod1 curls prod/pod1: an answer" answers dev/pod1 "$prod" "prod/pod1 $dev"
	check "towpath denied says why" denial prod/pod1 "$dev" "isolated by dev/deny-all-ingress"
	policy dev allow-all-ingress <<<$'  podSelector: {}\n  ingress: [{}]'
	expect "prod/pod1 curls dev/pod1: an answer" answers prod/pod1 "$dev" "dev/pod1 $prod"
	no_policy dev allow-all-ingress
	expect "prod/pod1 curls dev/pod1: it hangs" hangs prod/pod1 "$dev"
	myapp "{protocol: TCP, port: 80}"
	expect "prod/pod1 curls dev/pod1: an answer" answers prod/pod1 "$dev" "dev/pod1 $prod"
	expect "prod/pod-busybox, the exception: it hangs" hangs prod/pod-busybox "$dev"
	expect "prod/pod1 curls port 443: it hangs" hangs prod/pod1 "$dev:443"
	explains "allow-myapp-ingress ingress[0] would allow TCP 80, not 443" --from prod/pod1 --to dev/pod1 --port 443/TCP
	myapp "{protocol: TCP, port: 80}, {protocol: TCP, port: 443}"
	expect "prod/pod1 curls port 443: refused, not dropped" refused prod/pod1 "$dev:443"
	policy prod deny-all-egress <<<$'  podSelector: {}\n  policyTypes: [Egress]'
	expect "prod/pod-busybox pings coredns: no answer" unanswered prod/pod-busybox "$dns"
	expect "dev/pod1 curls prod/pod1: an answer" answers dev/pod1 "$prod" "prod/pod1 $dev"
	policy prod allow-all-egress <<<$'  podSelector: {}\n  policyTypes: [Egress]\n  egress: [{}]'
	expect "prod/pod-busybox pings coredns" pings prod/pod-busybox "$dns"
}

myapp() {
	policy dev allow-myapp-ingress <<-TEXT
		  podSelector: {matchLabels: {app: myapp}}
		  ingress:
		  - from: [{ipBlock: {cidr: 10.244.0.0/16, except: [$except/32]}}]
		    ports: [$1]
	TEXT
}
