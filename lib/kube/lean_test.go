package kube

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func protobuf(t testing.TB) runtime.Serializer {
	t.Helper()
	info, ok := runtime.SerializerInfoForMediaType(codecs.WithoutConversion().SupportedMediaTypes(), runtime.ContentTypeProtobuf)
	if !ok {
		t.Fatal("no protobuf")
	}
	return info.Serializer
}

func encode(t testing.TB, o runtime.Object) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := protobuf(t).Encode(o, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// full has a value in every field that is read, and others.
func full() *corev1.Pod {
	always := corev1.ContainerRestartPolicyAlways
	ports := []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}}
	probe := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromString("http")}}}
	return &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Name: "web", Namespace: "dev", UID: "u", ResourceVersion: "7", Generation: 3, Labels: map[string]string{"app": "web"}, Annotations: map[string]string{"a": "b"},
			CreationTimestamp: metav1.NewTime(time.Unix(1_700_000_000, 0)), ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubelet"}}, Finalizers: []string{"f"},
		},
		Spec: corev1.PodSpec{
			NodeName: "n1", HostNetwork: true, ServiceAccountName: "default", Volumes: []corev1.Volume{{Name: "v"}},
			Containers:     []corev1.Container{{Name: "c", Image: "i", Ports: ports, Env: []corev1.EnvVar{{Name: "E", Value: "v"}}, LivenessProbe: probe}},
			InitContainers: []corev1.Container{{Name: "s", Image: "i", Ports: ports, RestartPolicy: &always}},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, HostIP: "192.0.2.1", PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}}, HostIPs: []corev1.HostIP{{IP: "192.0.2.1"}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		},
	}
}

// bare is what arrives of it.
func bare(p *corev1.Pod) *corev1.Pod {
	p.ManagedFields, p.Finalizers, p.Spec.ServiceAccountName, p.Spec.Volumes, p.Status.Conditions = nil, nil, "", nil, nil
	p.Spec.Containers[0].Image, p.Spec.Containers[0].Env, p.Spec.Containers[0].LivenessProbe = "", nil, nil
	p.Spec.InitContainers[0].Image = ""
	return p
}

func fullNode() *corev1.Node {
	return &corev1.Node{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: "n1", ResourceVersion: "7", Annotations: map[string]string{"a": "b"}, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubelet"}}},
		Spec:       corev1.NodeSpec{PodCIDR: "10.0.1.0/24", PodCIDRs: []string{"10.0.1.0/24"}, ProviderID: "p"},
		Status: corev1.NodeStatus{
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionFalse}}, Images: []corev1.ContainerImage{{Names: []string{"i"}}},
		},
	}
}

// TestLean: what is read of an object arrives, the rest does not, in lists too; other kinds arrive whole.
func TestLean(t *testing.T) {
	node := fullNode()
	node.ManagedFields, node.Spec.ProviderID, node.Status.Images = nil, "", nil
	policy := &networkingv1.NetworkPolicy{
		TypeMeta: metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"}, ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "dev"},
		Spec: networkingv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, PolicyTypes: []networkingv1.PolicyType{"Ingress"}},
	}
	config := &corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: metav1.ObjectMeta{Name: "c", Finalizers: []string{"f"}}, Data: map[string]string{"k": "v"}}
	item := func(p *corev1.Pod) *corev1.PodList {
		p.TypeMeta = metav1.TypeMeta{}
		return &corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, ListMeta: metav1.ListMeta{ResourceVersion: "9", Continue: "more"}, Items: []corev1.Pod{*p}}
	}
	for _, test := range []struct{ in, want runtime.Object }{
		{full(), bare(full())},
		{item(full()), item(bare(full()))},
		{fullNode(), node},
		{policy, policy},
		{config, config},
	} {
		got, _, err := leanSerializer{protobuf(t)}.Decode(encode(t, test.in), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		got.GetObjectKind().SetGroupVersionKind(test.want.GetObjectKind().GroupVersionKind())
		if !equality.Semantic.DeepEqual(got, test.want) {
			t.Errorf("have %+v\nwant %+v", got, test.want)
		}
	}
}

// FuzzSlim: nothing that somebody sends makes it fail, and what the decoder took before it takes after.
func FuzzSlim(f *testing.F) {
	for _, o := range []runtime.Object{full(), fullNode()} {
		b := encode(f, o)
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	f.Add(append(bytes.Clone(magic), 0x0a, 0x05, 0x12, 0x03, 'P', 'o', 'd', 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := protobuf(t)
		before := bytes.Clone(data)
		whole, _, err := s.Decode(data, nil, nil)
		got, _, slimErr := leanSerializer{s}.Decode(data, nil, nil)
		if !bytes.Equal(data, before) {
			t.Fatal("the input was changed")
		}
		if err != nil {
			return
		}
		if slimErr != nil {
			t.Fatalf("taken whole, refused slim: %v", slimErr)
		}
		if a, ok := whole.(*corev1.Pod); ok {
			b := got.(*corev1.Pod)
			if a.Name != b.Name || a.UID != b.UID || a.Spec.NodeName != b.Spec.NodeName || fmt.Sprint(a.Labels, a.Status.PodIPs) != fmt.Sprint(b.Labels, b.Status.PodIPs) {
				t.Fatalf("have %+v, want %+v", b, a)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	pod := full()
	for i := range 20 { // about what a real one carries
		pod.ManagedFields = append(pod.ManagedFields, metav1.ManagedFieldsEntry{Manager: "kubelet", FieldsV1: metav1.NewFieldsV1(strings.Repeat("f", 100))})
		pod.Spec.Containers[0].Env = append(pod.Spec.Containers[0].Env, corev1.EnvVar{Name: fmt.Sprint("NAME", i), Value: "value"})
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: fmt.Sprint("volume", i)})
	}
	data := encode(b, pod)
	for name, s := range map[string]runtime.Serializer{"whole": protobuf(b), "lean": leanSerializer{protobuf(b)}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := s.Decode(data, nil, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
