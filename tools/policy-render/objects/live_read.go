package objects

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/kube"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// mirror is the annotation with the identity that the kubelet gives a pod of its own manifests.
const mirror = "kubernetes.io/config.mirror"

// liveReader makes objects of one kind of what the API server sent. The server has judged these: what of one cannot be
// understood is left out with a warning, and a policy closes for it (see model.Policy.Invalid); none is refused.
type liveReader struct {
	reader
}

func newLiveReader(o Options) *liveReader {
	o.Warn = Once(o.Warn)
	return &liveReader{reader{Options: o, file: Kube, intern: map[string]string{}}}
}

// internMax bounds the strings that one copy is kept of: labels that name one pod come and go for ever.
const internMax = 4096

func (r *liveReader) object(o Object) Object {
	if len(r.intern) > internMax {
		clear(r.intern)
	}
	o.Place = r.place()
	return o
}

func (r *liveReader) place() Place { return Place{File: Kube, Item: -1} }

func (r *liveReader) namespace(in *corev1.Namespace) Object {
	return r.object(Object{Namespace: &model.Namespace{Name: in.Name, Labels: r.labels(in.Labels)}})
}

func (r *liveReader) policy(in *networkingv1.NetworkPolicy) Object {
	out := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: r.one(in.Namespace), Name: in.Name}, Spec: in.Spec}
	if err := ValidatePolicy(&in.Spec); err != nil {
		r.warn(r.place(), fmt.Errorf("%s %q: it isolates, and this part of it allows nothing: %w", NetworkPolicy, in.Namespace+"/"+in.Name, err))
	}
	return r.object(Object{Policy: out})
}

func (r *liveReader) pod(in *corev1.Pod) Object {
	p := &model.Pod{
		Key: model.Key{Namespace: r.one(in.Namespace), Name: in.Name}, UID: string(in.UID), Labels: r.labels(in.Labels),
		Node: r.one(in.Spec.NodeName), HostNetwork: in.Spec.HostNetwork,
		Finished: in.Status.Phase == corev1.PodSucceeded || in.Status.Phase == corev1.PodFailed,
	}
	if id := in.Annotations[mirror]; id != "" {
		p.UID = id
	}
	for _, ip := range in.Status.PodIPs {
		if a, ok := r.addr(in, "status.podIPs", ip.IP); ok {
			p.IPs = append(p.IPs, a)
		}
	}
	for _, ip := range in.Status.HostIPs {
		if a, ok := r.addr(in, "status.hostIPs", ip.IP); ok {
			p.HostIPs = append(p.HostIPs, a)
		}
	}
	for _, c := range in.Spec.Containers {
		r.containerPorts(p, c.Ports)
	}
	for _, c := range in.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways { // a sidecar: it runs as long as the pod
			r.containerPorts(p, c.Ports)
		}
	}
	return r.object(Object{Pod: p})
}

func (r *liveReader) addr(in *corev1.Pod, key, text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	why := ""
	if err != nil {
		why = "is no address"
	} else if key == "status.podIPs" {
		why = useless(a)
	}
	if why != "" {
		r.warn(r.place(), exit.WithHint(fmt.Errorf("%s %q: key %q: %q %s and is left out", Pod, in.Namespace+"/"+in.Name, key, text, why), "correct the pod's status"))
	}
	return a.Unmap(), why == ""
}

func (r *liveReader) containerPorts(p *model.Pod, ports []corev1.ContainerPort) {
	for _, cp := range ports {
		proto, ok := model.TCP, true
		if cp.Protocol != "" {
			proto, ok = model.ParseProtocol(string(cp.Protocol))
		}
		if cp.Name == "" || !ok || cp.ContainerPort < 1 || cp.ContainerPort > 65535 {
			continue
		}
		p.Ports = append(p.Ports, model.NamedPort{Name: r.one(cp.Name), Protocol: proto, Port: uint16(cp.ContainerPort)})
	}
}

// plural is the kind as the API's addresses spell it.
func (k Kind) plural() string {
	if k == NetworkPolicy {
		return "networkpolicies"
	}
	return strings.ToLower(k.String()) + "s"
}

func readAll[T kube.Object](ctx context.Context, c *kube.Client, k kube.Kind[T], read func(T) Object) ([]Object, error) {
	all, err := kube.List(ctx, c, k, nil)
	out := make([]Object, len(all))
	for i, o := range all {
		out[i] = read(o)
	}
	return out, err
}
