// Command policy-denied says which packets the policies of this node dropped, in lines that a person
// understands: when, from whom, to whom, and which policies isolate that pod. It receives what the rules log
// to an NFLOG group, and finds names in endpoints/, policy/pods/ and the notes of policy/. It writes no file and
// changes nothing. It exists because a denied connection only hangs: the kernel's counters tell
// that something was dropped, and nobody whose.
package main

import "github.com/towpath/towpath/lib/tool"

func main() { tool.Main(program) }

var program = tool.Program{
	Name:    "policy-denied",
	Summary: "print the packets that NetworkPolicies denied",
	Verbs: []tool.Verb{{
		Name: "watch", Usage: "print a line for each denied packet until told to end", Run: watch,
		Flags: []tool.Flag{
			{Name: "group", Usage: "NFLOG group that the rules log to", Default: 100},
			{Name: "pod", Usage: "only packets from or to this pod, NAMESPACE/NAME", Default: ""},
			{Name: "count", Usage: "end after so many lines; 0: do not", Default: 0},
			{Name: "output", Usage: "text, or json: an object a line", Default: "text"},
		},
	}},
}
