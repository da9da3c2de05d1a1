package oracle

import (
	"testing"

	"github.com/mattfenwick/cyclonus/pkg/kube"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestKnownBugs sees that the reference still has the bugs that it is kept from: one that is mended needs no
// detour any more, and a detour that nothing needs could hide a difference.
func TestKnownBugs(t *testing.T) {
	for _, test := range []struct {
		name     string
		labels   map[string]string
		selector metav1.LabelSelector
		right    bool // Kubernetes' answer
	}{
		{"NotIn on an absent key", nil, selectorOf("app", metav1.LabelSelectorOpNotIn, "web"), true},
		{"matchLabels with an empty value on an absent key", nil, metav1.LabelSelector{MatchLabels: map[string]string{"flag": ""}}, false},
		{"NotIn without values", map[string]string{"app": "web"}, selectorOf("app", metav1.LabelSelectorOpNotIn), false},
	} {
		if kube.IsLabelsMatchLabelSelector(test.labels, test.selector) == test.right {
			t.Errorf("%s: mended", test.name)
		}
		said := false
		for _, s := range split(test.selector) {
			said = said || kube.IsLabelsMatchLabelSelector(test.labels, s)
		}
		if said != test.right {
			t.Errorf("%s: wrong in other words too", test.name)
		}
	}
	if ok, err := kube.IsIPInCIDR("10.244.1.2", "010.244.0.0/16"); err == nil {
		t.Errorf("a CIDR with leading zeros: mended: %v", ok)
	}
	if ok, err := kube.IsIPInCIDR("10.244.1.2", cidr("010.244.0.0/16")); err != nil || !ok {
		t.Errorf("a CIDR with leading zeros in other words: %v %v", ok, err)
	}
}

func selectorOf(key string, op metav1.LabelSelectorOperator, values ...string) metav1.LabelSelector {
	return metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: op, Values: values}}}
}
