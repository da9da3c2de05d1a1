# shellcheck shell=bash
# What the demo's story of NetworkPolicies is told with: objects, and what is expected of them.
objects=/etc/towpath/objects # one directory for all nodes stands in for the API server

# object FILE: standard input becomes the file, in one step.
object() { cat >$objects/.new && mv $objects/.new "$objects/$1"; }

namespaces() {
	mkdir -p $objects
	printf -- '---\napiVersion: v1\nkind: Namespace\nmetadata: {name: %s}\n' dev prod kube-system | object namespaces.yaml
}

# pod_object NODE NAMESPACE NAME [IP…]: as the API server has it, before and after the pod has its addresses.
pod_object() {
	local ips=
	[[ $# == 3 ]] || ips=$(printf '{ip: "%s"}, ' "${@:4}")
	object "pod-$2-$3.yaml" <<-TEXT
		apiVersion: v1
		kind: Pod
		metadata: {namespace: $2, name: $3, uid: $2-$3, labels: {app: ${3/#pod1/myapp}}}
		spec: {nodeName: $1}
		status: {phase: $([[ ${4:-} ]] && echo Running || echo Pending), podIPs: [${ips%, }]}
	TEXT
}

# policy NAMESPACE NAME: the spec is standard input.
policy() {
	local text
	text=$(printf 'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: %s, name: %s}\nspec:\n' "$1" "$2" && cat)
	printf '\n%s\n\n' "    ${text//$'\n'/$'\n'    }"
	object "policy-$1-$2.yaml" <<<"$text"
}

no_policy() {
	printf '\n    (%s/%s is deleted)\n\n' "$1" "$2"
	rm "$objects/policy-$1-$2.yaml"
}

# expect WHAT COMMAND…: a policy holds a moment after it was written; 5 s is the end of patience.
expect() { each "expected: $1" soon "${@:2}"; }
soon() {
	local start out
	start=$(now_ms)
	until out=$("$@" 2>&1); do
		if (($(now_ms) - start > 5000)); then
			echo "$out"
			return 1
		fi
		wait_ms 5
	done
	echo "$out"
}

# ends STATUS FROM TO[:PORT]: how the curl must end; 28 is the time it was given, 7 is a refusal.
ends() {
	local code=0
	at "$2" curl -sS -m 0.5 "$(url "$3")/" >/dev/null 2>&1 || code=$?
	[[ $code == "$1" ]] || { echo "curl ended with $code instead of $1" && return 1; }
}
hangs() { ends 28 "$@" && echo "no answer in 0.5 s"; }
refused() { ends 7 "$@" && echo "connection refused, by the pod itself"; }
unanswered() { if at "$1" ping -c 1 -W 0.5 "$(ip_of "$2")" >/dev/null; then return 1; else echo "no answer in 0.5 s"; fi; }

# denial FROM TO REASON: what towpath denied prints on the node of dev/pod1 while the curl hangs.
denial() {
	on worker02 towpath denied --count 1 --pod dev/pod1 --log-level warn >$work/denied &
	local reader=$!
	until on worker02 grep -qs '^ *100 ' /proc/net/netfilter/nfnetlink_log; do wait_ms 5; done
	hangs "$1" "$2" >/dev/null || return 1
	wait "$reader" && grep -F "$3" $work/denied
}

# explains WORDS ARGUMENTS…: policy-render explain must say them; all that it says is printed.
explains() {
	local words=$1 text
	shift
	text=$(on worker02 policy-render explain --objects $objects "$@" || true)
	printf '\n[worker02] policy-render explain %s\n%s\n\n' "$*" "$text"
	check "it says: $words" grep -oF "$words" <<<"$text"
}
