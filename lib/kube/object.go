package kube

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// Object is one object of the API.
type Object interface {
	runtime.Object
	metav1.Object
}

// Kind is a kind of object that this package knows.
type Kind[T Object] struct {
	gv       schema.GroupVersion
	resource string
	empty    func() T
	list     func() runtime.Object
}

// The kinds.
var (
	Nodes = Kind[*corev1.Node]{
		corev1.SchemeGroupVersion, "nodes",
		func() *corev1.Node { return &corev1.Node{} }, func() runtime.Object { return &corev1.NodeList{} },
	}
	Pods = Kind[*corev1.Pod]{
		corev1.SchemeGroupVersion, "pods",
		func() *corev1.Pod { return &corev1.Pod{} }, func() runtime.Object { return &corev1.PodList{} },
	}
	Namespaces = Kind[*corev1.Namespace]{
		corev1.SchemeGroupVersion, "namespaces",
		func() *corev1.Namespace { return &corev1.Namespace{} }, func() runtime.Object { return &corev1.NamespaceList{} },
	}
	ConfigMaps = Kind[*corev1.ConfigMap]{
		corev1.SchemeGroupVersion, "configmaps",
		func() *corev1.ConfigMap { return &corev1.ConfigMap{} }, func() runtime.Object { return &corev1.ConfigMapList{} },
	}
	Events = Kind[*corev1.Event]{
		corev1.SchemeGroupVersion, "events",
		func() *corev1.Event { return &corev1.Event{} }, func() runtime.Object { return &corev1.EventList{} },
	}
	NetworkPolicies = Kind[*networkingv1.NetworkPolicy]{
		networkingv1.SchemeGroupVersion, "networkpolicies",
		func() *networkingv1.NetworkPolicy { return &networkingv1.NetworkPolicy{} }, func() runtime.Object { return &networkingv1.NetworkPolicyList{} },
	}
)

// String is the kind as the API's addresses spell it.
func (k Kind[T]) String() string { return k.resource }

func (k Kind[T]) on(c *Client) rest.Interface { return c.clients[k.gv] }

// Get reads one object; namespace is empty for nodes and namespaces. NotFound tells an error for an object that
// is not there.
func Get[T Object](ctx context.Context, c *Client, k Kind[T], namespace, name string) (T, error) {
	into := k.empty()
	err := k.on(c).Get().NamespaceIfScoped(namespace, namespace != "").Resource(k.resource).Name(name).Timeout(Timeout).Do(ctx).Into(into)
	return into, wrap("get", k.resource+" "+path(namespace, name), err)
}

// Patch changes one object by a strategic merge patch and returns what it is now. subresource is empty or
// such as "status".
func Patch[T Object](ctx context.Context, c *Client, k Kind[T], namespace, name, subresource string, patch []byte) (T, error) {
	into := k.empty()
	r := k.on(c).Patch(types.StrategicMergePatchType).NamespaceIfScoped(namespace, namespace != "").Resource(k.resource).Name(name)
	if subresource != "" {
		r = r.SubResource(subresource)
	}
	err := r.Body(patch).Timeout(Timeout).Do(ctx).Into(into)
	return into, wrap("patch", k.resource+" "+path(namespace, name), err)
}

// Create makes an object.
func Create[T Object](ctx context.Context, c *Client, k Kind[T], object T) (T, error) {
	into := k.empty()
	namespace := object.GetNamespace()
	err := k.on(c).Post().NamespaceIfScoped(namespace, namespace != "").Resource(k.resource).Body(object).Timeout(Timeout).Do(ctx).Into(into)
	return into, wrap("create", k.resource+" "+path(namespace, object.GetName()), err)
}

func path(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}
