package kube

import (
	"context"
	"fmt"
	"hash/fnv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// WarnOfNode makes an Event of type Warning about a node, as `kubectl describe node` shows it. Its name is made of what it says, so
// that the same Event is not made again while the first is there (the API server keeps it for an hour), whoever asks.
func WarnOfNode(ctx context.Context, c *Client, component, node, reason, message string) error {
	now := metav1.Now()
	digest := fnv.New64a()
	fmt.Fprintf(digest, "%s\x00%s\x00%s", component, reason, message)
	_, err := Create(ctx, c, Events, &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s.%016x", node, digest.Sum64()), Namespace: metav1.NamespaceDefault},
		// The kubelet's events have the name in the place of the identifier; kubectl looks for both.
		InvolvedObject: corev1.ObjectReference{Kind: "Node", Name: node, UID: types.UID(node)},
		Type:           corev1.EventTypeWarning, Reason: reason, Message: message, Count: 1,
		FirstTimestamp: now, LastTimestamp: now,
		Source: corev1.EventSource{Component: component, Host: node}, ReportingController: component, ReportingInstance: node,
	})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
