package main

import (
	"context"

	"github.com/towpath/towpath/lib/kube"
	"github.com/towpath/towpath/lib/tool"
	"github.com/towpath/towpath/tools/policy-render/objects"
)

// origin is where objects come from.
type origin struct {
	path string // objects.Kube: the API server
	kube kube.Options
	objects.Options
}

// originOf is where the flags say. Who names a kubeconfig and no objects means the API server's.
func originOf(env *tool.Env) origin {
	o := origin{path: env.String("objects"), kube: kube.OptionsOf(env, "policy-render"), Options: objectOptions(env)}
	if !env.IsSet("objects") && o.kube.Kubeconfig != "" {
		o.path = objects.Kube
	}
	return o
}

// originOfArg is where an argument says.
func originOfArg(env *tool.Env, i int) origin {
	o := originOf(env)
	o.path = env.Args[i]
	return o
}

// live says whether the API server is asked.
func (o origin) live() bool { return o.path == objects.Kube }

// read reads all objects once.
func (o origin) read(ctx context.Context) ([]objects.Object, error) {
	if !o.live() {
		return objects.ReadPath(o.path, o.Options)
	}
	c, err := kube.Open(o.kube)
	if err != nil {
		return nil, err
	}
	return objects.ReadLive(ctx, c, o.Options)
}

// open is the source that tells of changes too.
func (o origin) open() (objects.Source, error) {
	if !o.live() {
		return objects.Open(o.path, o.Options)
	}
	c, err := kube.Open(o.kube)
	if err != nil {
		return nil, err
	}
	return &objects.Live{Client: c, Options: o.Options}, nil
}
