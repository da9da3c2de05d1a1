package objects

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	kjson "sigs.k8s.io/json"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// decodePolicy reads a NetworkPolicy from JSON and refuses what the API server would refuse, unknown and doubled keys
// included.
func decodePolicy(text []byte) (*networkingv1.NetworkPolicy, error) {
	var np networkingv1.NetworkPolicy
	strict, err := kjson.UnmarshalStrict(text, &np)
	name := fmt.Sprintf("NetworkPolicy %q", cmp.Or(np.Namespace, "default")+"/"+np.Name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, jsonError(err))
	}
	for _, err := range strict {
		if err := strictError(err); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if key := nullEntry(text); key != "" {
		return nil, fmt.Errorf("%s: %w", name, exit.WithHint(fmt.Errorf("key %q: nothing stands behind the dash", key), "write {} if everything is meant, else remove the dash"))
	}
	out := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: np.Namespace, Name: np.Name}, Spec: np.Spec}
	if err := checkName(&out.Namespace, out.Name); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := ValidatePolicy(&out.Spec); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return out, nil
}

// nullEntry is the key of an entry that is null, else "". The API server would make everything of it, which nobody means
// who leaves a dash alone, and every half-written file has one.
func nullEntry(text []byte) string {
	if !bytes.Contains(text, []byte("null")) {
		return ""
	}
	type entries []*json.RawMessage
	var np struct {
		Spec struct {
			Ingress []*struct{ From, Ports entries }
			Egress  []*struct{ To, Ports entries }
		}
	}
	if json.Unmarshal(text, &np) != nil {
		return ""
	}
	within := func(key string, list entries) string {
		if i := slices.Index(list, nil); i >= 0 {
			return fmt.Sprintf("%s[%d]", key, i)
		}
		return ""
	}
	for i, r := range np.Spec.Ingress {
		key := fmt.Sprintf("spec.ingress[%d]", i)
		if r == nil {
			return key
		}
		if bad := cmp.Or(within(key+".from", r.From), within(key+".ports", r.Ports)); bad != "" {
			return bad
		}
	}
	for i, r := range np.Spec.Egress {
		key := fmt.Sprintf("spec.egress[%d]", i)
		if r == nil {
			return key
		}
		if bad := cmp.Or(within(key+".to", r.To), within(key+".ports", r.Ports)); bad != "" {
			return bad
		}
	}
	return ""
}

// strictError is an unknown or doubled key, unless it is in a part that is not read.
func strictError(err error) error {
	var field kjson.FieldError
	if !errors.As(err, &field) {
		return err
	}
	path := field.FieldPath()
	if path == "status" || strings.HasPrefix(path, "status.") || strings.HasPrefix(path, "metadata.") {
		return nil
	}
	text := "unknown key"
	if strings.HasPrefix(err.Error(), "duplicate") {
		text = "stands there twice"
	}
	return exit.WithHint(fmt.Errorf("key %q: %s", path, text), "correct its spelling or its indentation, or remove it: a policy with a key left out would select other pods or peers")
}

type pathError struct {
	key  string
	err  error
	hint string
}

// fault makes an error of a key. The hint says what to write.
func fault(key, hint string, format string, args ...any) *pathError {
	return &pathError{key, fmt.Errorf(format, args...), hint}
}

// ValidatePolicy judges a spec as the API server does.
func ValidatePolicy(spec *networkingv1.NetworkPolicySpec) error {
	e := validate(spec)
	if e == nil {
		return nil
	}
	err := fmt.Errorf("key %q: %w", e.key, e.err)
	if e.hint != "" {
		return exit.WithHint(err, "%s", e.hint)
	}
	return err
}

func validate(spec *networkingv1.NetworkPolicySpec) *pathError {
	if e := checkSelector("spec.podSelector", &spec.PodSelector); e != nil {
		return e
	}
	for i, r := range spec.Ingress {
		if e := checkRule(fmt.Sprintf("spec.ingress[%d]", i), "from", r.From, r.Ports); e != nil {
			return e
		}
	}
	for i, r := range spec.Egress {
		if e := checkRule(fmt.Sprintf("spec.egress[%d]", i), "to", r.To, r.Ports); e != nil {
			return e
		}
	}
	const types = "write policyTypes: [Ingress], [Egress] or [Ingress, Egress], or leave it out"
	if len(spec.PolicyTypes) > 2 {
		return fault("spec.policyTypes", types, "%d types, there are two", len(spec.PolicyTypes))
	}
	for i, t := range spec.PolicyTypes {
		key := fmt.Sprintf("spec.policyTypes[%d]", i)
		if t != networkingv1.PolicyTypeIngress && t != networkingv1.PolicyTypeEgress {
			return fault(key, types, "%q is not a type", t)
		}
	}
	return nil
}

func checkRule(key, field string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) *pathError {
	for i := range ports {
		if e := checkPort(fmt.Sprintf("%s.ports[%d]", key, i), &ports[i]); e != nil {
			return e
		}
	}
	for i := range peers {
		if e := checkPeer(fmt.Sprintf("%s.%s[%d]", key, field, i), &peers[i]); e != nil {
			return e
		}
	}
	return nil
}

func checkPort(key string, p *networkingv1.NetworkPolicyPort) *pathError {
	if p.Protocol != nil {
		if _, ok := model.ParseProtocol(string(*p.Protocol)); !ok {
			hint := "NetworkPolicy knows TCP, UDP and SCTP"
			if _, ok := model.ParseProtocol(strings.ToUpper(string(*p.Protocol))); ok {
				hint = "write it in capitals"
			}
			return fault(key+".protocol", hint, "%q is not one of TCP, UDP, SCTP", *p.Protocol)
		}
	}
	const numbers = "a range is written port: 8000 and endPort: 8099, both numbers"
	switch {
	case p.Port == nil:
		if p.EndPort != nil {
			return fault(key+".endPort", numbers, "stands without port")
		}
		return nil
	case p.Port.Type == intstr.String:
		if p.EndPort != nil {
			return fault(key+".endPort", numbers, "stands with the named port %q", p.Port.StrVal)
		}
		if err := model.CheckPortName(p.Port.StrVal); err != nil {
			return fault(key+".port", "a number is written without quotes", "%q is neither a number nor a name: %w", p.Port.StrVal, err)
		}
		return nil
	case p.Port.IntVal < 1 || p.Port.IntVal > 65535:
		return fault(key+".port", "", "%d is not between 1 and 65535", p.Port.IntVal)
	case p.EndPort == nil:
		return nil
	case *p.EndPort < p.Port.IntVal:
		return fault(key+".endPort", numbers, "%d is below port %d", *p.EndPort, p.Port.IntVal)
	case *p.EndPort > 65535:
		return fault(key+".endPort", "", "%d is not between 1 and 65535", *p.EndPort)
	}
	return nil
}

func checkPeer(key string, p *networkingv1.NetworkPolicyPeer) *pathError {
	switch {
	case p.IPBlock != nil && (p.PodSelector != nil || p.NamespaceSelector != nil):
		return fault(key, "make two entries of it, each beginning with a dash", "has both ipBlock and a selector")
	case p.IPBlock != nil:
		return checkBlock(key+".ipBlock", p.IPBlock)
	case p.PodSelector == nil && p.NamespaceSelector == nil:
		return fault(key, "write podSelector, namespaceSelector or ipBlock; for every peer leave the list out, for every pod write namespaceSelector: {}", "names no peer")
	}
	if p.PodSelector != nil {
		if e := checkSelector(key+".podSelector", p.PodSelector); e != nil {
			return e
		}
	}
	if p.NamespaceSelector != nil {
		return checkSelector(key+".namespaceSelector", p.NamespaceSelector)
	}
	return nil
}

func checkBlock(key string, b *networkingv1.IPBlock) *pathError {
	block, err := model.ParseBlock(b.CIDR)
	if err != nil {
		return fault(key+".cidr", "for one address write it with /32, or /128 for IPv6", "%w", err)
	}
	for i, e := range b.Except {
		key := fmt.Sprintf("%s.except[%d]", key, i)
		x, err := model.ParseBlock(e)
		if err != nil {
			return fault(key, "for one address write it with /32, or /128 for IPv6", "%w", err)
		}
		if err := model.CheckExcept(block, x); err != nil {
			return fault(key, "", "%q %w", e, err)
		}
	}
	return nil
}

func checkSelector(key string, s *metav1.LabelSelector) *pathError {
	for k, v := range s.MatchLabels {
		if err := model.CheckLabelKey(k); err != nil {
			return fault(key+".matchLabels", "", "%w", err)
		}
		if err := model.CheckLabelValue(v); err != nil {
			return fault(key+".matchLabels."+k, "", "%w", err)
		}
	}
	for i, e := range s.MatchExpressions {
		key := fmt.Sprintf("%s.matchExpressions[%d]", key, i)
		if err := model.CheckRequirement(e); err != nil {
			return fault(key, "", "%w", err)
		}
	}
	return nil
}
