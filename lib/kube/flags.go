package kube

import "github.com/towpath/towpath/lib/tool"

// Flags are the flags of a program that talks to the API server.
var Flags = []tool.Flag{
	{Name: "kubeconfig", Usage: "kubeconfig file for the API server; default: the pod's service account", Default: ""},
	{Name: "kube-api-url", Usage: "URL of the API server, in place of the kubeconfig's or the pod's", Default: ""},
}

// OptionsOf are the options that the flags say.
func OptionsOf(env *tool.Env, program string) Options {
	return Options{Kubeconfig: env.String("kubeconfig"), Server: env.String("kube-api-url"), Program: program}
}
