package kube

import (
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestTrimNode: what is dropped is nothing that nodeOf reads, and what is kept is little.
func TestTrimNode(t *testing.T) {
	const prefix = "flannel.alpha.coreos.com/"
	created := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	whole := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: "a", ResourceVersion: "17", CreationTimestamp: metav1.NewTime(created), UID: "x", Labels: map[string]string{"a": "b"},
			Annotations:   map[string]string{prefix + "public-ip": "192.168.7.1", "other.example.org/x": "y", prefix: ""},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubelet"}},
		},
		Spec: corev1.NodeSpec{PodCIDR: "10.244.1.0/24", PodCIDRs: []string{"10.244.1.0/24", "fd00::/64"}, Taints: []corev1.Taint{{Key: "x"}}},
		Status: corev1.NodeStatus{
			Images:     []corev1.ContainerImage{{Names: []string{"x"}}},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: "True"}, {Type: corev1.NodeNetworkUnavailable, Status: "False", Reason: "FlannelIsUp"}},
		},
	}
	want := Node{
		Name: "a", Revision: 17, Created: created, PodCIDRs: []string{"10.244.1.0/24", "fd00::/64"},
		Annotations: map[string]string{"public-ip": "192.168.7.1", "": ""}, Unavailable: "False",
	}
	if got := nodeOf(whole, prefix); !reflect.DeepEqual(got, want) {
		t.Errorf("whole: %+v", got)
	}
	trimNode(whole, prefix)
	trimNode(whole, prefix) // it may be called twice
	if got := nodeOf(whole, prefix); !reflect.DeepEqual(got, want) {
		t.Errorf("trimmed: %+v", got)
	}
	if whole.Status.Images != nil || whole.ManagedFields != nil || whole.Labels != nil || len(whole.Annotations) != 2 || len(whole.Status.Conditions) != 1 {
		t.Errorf("kept too much: %+v", whole)
	}
	old := nodeOf(&corev1.Node{Spec: corev1.NodeSpec{PodCIDR: "10.244.1.0/24"}, ObjectMeta: metav1.ObjectMeta{ResourceVersion: "x"}}, prefix)
	if len(old.PodCIDRs) != 1 || old.Annotations == nil || old.Revision != 0 || old.Unavailable != "" {
		t.Errorf("of an old server: %+v", old)
	}
}
