package kube

import (
	"context"

	corev1 "k8s.io/api/core/v1"
)

// ConfigMapData reads the texts of a ConfigMap. NotFound tells an error for one that is not there.
func ConfigMapData(ctx context.Context, c *Client, namespace, name string) (map[string]string, error) {
	o, err := Get(ctx, c, ConfigMaps, namespace, name)
	if err != nil {
		return nil, err
	}
	return o.Data, nil
}

// FollowConfigMap tells of the texts of one ConfigMap until ctx ends, nil while it is not there. No other is asked for. trouble
// and heard are as in FollowOptions.
func FollowConfigMap(ctx context.Context, c *Client, namespace, name string, told func(map[string]string), trouble func(error), heard func()) {
	Follow(ctx, c, ConfigMaps, FollowOptions[*corev1.ConfigMap]{
		Namespace: namespace, Fields: "metadata.name=" + name, Trouble: trouble, Heard: heard,
		Trim: func(o *corev1.ConfigMap) { o.BinaryData, o.ManagedFields = nil, nil },
	}, configMapSink(told))
}

type configMapSink func(map[string]string)

func (s configMapSink) Replace(all []*corev1.ConfigMap) {
	if len(all) == 0 {
		s(nil)
		return
	}
	s.Set(all[0])
}

func (s configMapSink) Set(o *corev1.ConfigMap) {
	if o.Data == nil {
		o.Data = map[string]string{}
	}
	s(o.Data)
}

func (s configMapSink) Delete(string, string) { s(nil) }
