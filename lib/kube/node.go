package kube

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Node is what towpath uses of a Node object. The rest, most of it the list of images, is dropped as it arrives.
type Node struct {
	Name string
	// Revision grows with every change of the object; 0: the server's revisions are no numbers.
	Revision uint64
	Created  time.Time
	PodCIDRs []string
	// Annotations are those whose names begin with the prefix that was asked for, by the rest of the name.
	Annotations map[string]string
	// Unavailable is the status of the condition NetworkUnavailable: True, False, Unknown, or empty where there is none.
	Unavailable string
}

// NodeStream is told of all nodes, as a Stream is of objects.
type NodeStream interface {
	Set(Node)
	Delete(name string)
	// Listed ends a list: there are no nodes but those of these names, in no namespace.
	Listed(names map[Name]struct{})
}

// GetNode reads one node, with its annotations of a prefix.
func GetNode(ctx context.Context, c *Client, prefix, name string) (Node, error) {
	o, err := Get(ctx, c, Nodes, "", name)
	if err != nil {
		return Node{}, err
	}
	return nodeOf(o, prefix), nil
}

// ListNodes reads all nodes.
func ListNodes(ctx context.Context, c *Client, prefix string) ([]Node, error) {
	all, err := List(ctx, c, Nodes, func(o *corev1.Node) { trimNode(o, prefix) })
	nodes := make([]Node, len(all))
	for i, o := range all {
		nodes[i] = nodeOf(o, prefix)
	}
	return nodes, err
}

// FollowNodes is FollowStream for nodes. trouble and heard are as in FollowOptions.
func FollowNodes(ctx context.Context, c *Client, prefix string, to NodeStream, trouble func(error), heard func()) {
	FollowStream(ctx, c, Nodes, FollowOptions[*corev1.Node]{
		Trim: func(o *corev1.Node) { trimNode(o, prefix) }, Trouble: trouble, Heard: heard,
	}, nodeStream{to, prefix})
}

type nodeStream struct {
	NodeStream
	prefix string
}

func (s nodeStream) Set(o *corev1.Node) { s.NodeStream.Set(nodeOf(o, s.prefix)) }

func (s nodeStream) Delete(_, name string) { s.NodeStream.Delete(name) }

// trimNode leaves what nodeOf reads.
func trimNode(o *corev1.Node, prefix string) {
	kept := corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: o.Name, ResourceVersion: o.ResourceVersion, CreationTimestamp: o.CreationTimestamp},
		Spec:       corev1.NodeSpec{PodCIDR: o.Spec.PodCIDR, PodCIDRs: o.Spec.PodCIDRs},
	}
	for key, value := range o.Annotations {
		if strings.HasPrefix(key, prefix) {
			if kept.Annotations == nil {
				kept.Annotations = map[string]string{}
			}
			kept.Annotations[key] = value
		}
	}
	if condition := networkUnavailable(o); condition != nil {
		kept.Status.Conditions = []corev1.NodeCondition{{Type: condition.Type, Status: condition.Status}}
	}
	*o = kept
}

func networkUnavailable(o *corev1.Node) *corev1.NodeCondition {
	for i := range o.Status.Conditions {
		if c := &o.Status.Conditions[i]; c.Type == corev1.NodeNetworkUnavailable {
			return c
		}
	}
	return nil
}

func nodeOf(o *corev1.Node, prefix string) Node {
	n := Node{Name: o.Name, Created: o.CreationTimestamp.Time, PodCIDRs: o.Spec.PodCIDRs, Annotations: map[string]string{}}
	n.Revision, _ = strconv.ParseUint(o.ResourceVersion, 10, 64) // 0 is documented
	if len(n.PodCIDRs) == 0 && o.Spec.PodCIDR != "" {
		n.PodCIDRs = []string{o.Spec.PodCIDR}
	}
	for key, value := range o.Annotations {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			n.Annotations[rest] = value
		}
	}
	if condition := networkUnavailable(o); condition != nil {
		n.Unavailable = string(condition.Status)
	}
	return n
}

// Annotate sets annotations of a node, by the rest of their names after a prefix; nil removes one. It is a patch of
// the node's status, which a node's network may change where the node itself is not its own to change.
func Annotate(ctx context.Context, c *Client, prefix, name string, values map[string]*string) (Node, error) {
	full := make(map[string]*string, len(values))
	for key, value := range values {
		full[prefix+key] = value
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": full}})
	if err != nil {
		return Node{}, err
	}
	return patchNode(ctx, c, prefix, name, patch)
}

// SetNetworkUnavailable sets a node's condition of that name.
func SetNetworkUnavailable(ctx context.Context, c *Client, prefix, name string, unavailable bool, reason, message string) (Node, error) {
	status := corev1.ConditionFalse
	if unavailable {
		status = corev1.ConditionTrue
	}
	now := metav1.Now()
	condition := corev1.NodeCondition{
		Type: corev1.NodeNetworkUnavailable, Status: status, Reason: reason, Message: message, LastHeartbeatTime: now, LastTransitionTime: now,
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []corev1.NodeCondition{condition}}})
	if err != nil {
		return Node{}, err
	}
	return patchNode(ctx, c, prefix, name, patch)
}

func patchNode(ctx context.Context, c *Client, prefix, name string, patch []byte) (Node, error) {
	o, err := Patch(ctx, c, Nodes, "", name, "status", patch)
	if err != nil {
		return Node{}, err
	}
	return nodeOf(o, prefix), nil
}
