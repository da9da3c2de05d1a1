package kube

import "context"

// NodeOfPod is the name of the node that a pod is on; empty while it is on none.
func NodeOfPod(ctx context.Context, c *Client, namespace, name string) (string, error) {
	o, err := Get(ctx, c, Pods, namespace, name)
	if err != nil {
		return "", err
	}
	return o.Spec.NodeName, nil
}
