package model

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// requirement is one term of a selector; values are sorted.
type requirement struct {
	key    string
	op     metav1.LabelSelectorOperator
	values []string
}

// selector is a label selector in canonical order; the empty one matches everything.
type selector []requirement

// nameLabel is the label that the API server gives every namespace.
const nameLabel = "kubernetes.io/metadata.name"

// compileSelector makes a selector of its API form. An error means that nothing may be concluded from it.
func compileSelector(in *metav1.LabelSelector) (selector, error) {
	s := make(selector, 0, len(in.MatchLabels)+len(in.MatchExpressions))
	for k, v := range in.MatchLabels {
		s = append(s, requirement{k, metav1.LabelSelectorOpIn, []string{v}})
	}
	for _, e := range in.MatchExpressions {
		values := slices.Clone(e.Values)
		slices.Sort(values)
		s = append(s, requirement{e.Key, e.Operator, slices.Compact(values)})
	}
	for _, r := range s {
		if err := r.check(); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(s, func(a, b requirement) int {
		return cmp.Or(strings.Compare(a.key, b.key), strings.Compare(string(a.op), string(b.op)), slices.Compare(a.values, b.values))
	})
	s = slices.CompactFunc(s, func(a, b requirement) bool {
		return a.key == b.key && a.op == b.op && slices.Equal(a.values, b.values)
	})
	return slices.Clip(s), nil
}

func (r requirement) check() error {
	if err := CheckLabelKey(r.key); err != nil {
		return err
	}
	switch r.op {
	case metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn:
		if len(r.values) == 0 {
			return fmt.Errorf("operator %s of key %q needs values", r.op, r.key)
		}
	case metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist:
		if len(r.values) > 0 {
			return fmt.Errorf("operator %s of key %q takes no values", r.op, r.key)
		}
	default:
		return fmt.Errorf("operator %q of key %q is not one of In, NotIn, Exists, DoesNotExist", r.op, r.key)
	}
	for _, v := range r.values {
		if err := CheckLabelValue(v); err != nil {
			return fmt.Errorf("key %q: %w", r.key, err)
		}
	}
	return nil
}

// matches says whether the labels meet every requirement. NotIn holds for an absent key.
func (s selector) matches(labels map[string]string) bool {
	for i := range s {
		r := &s[i]
		v, has := labels[r.key]
		switch r.op {
		case metav1.LabelSelectorOpIn:
			if !has || !r.has(v) {
				return false
			}
		case metav1.LabelSelectorOpNotIn:
			if has && r.has(v) {
				return false
			}
		case metav1.LabelSelectorOpExists:
			if !has {
				return false
			}
		default:
			if has {
				return false
			}
		}
	}
	return true
}

func (r *requirement) has(v string) bool {
	if len(r.values) <= 8 {
		return slices.Contains(r.values, v)
	}
	_, ok := slices.BinarySearch(r.values, v)
	return ok
}

// String is the form that kubectl prints. Keys and values hold no character that it uses, so that equal
// strings are equal selectors.
func (s selector) String() string {
	var b strings.Builder
	for i, r := range s {
		if i > 0 {
			b.WriteByte(',')
		}
		switch {
		case r.op == metav1.LabelSelectorOpIn && len(r.values) == 1:
			b.WriteString(r.key + "=" + r.values[0])
		case r.op == metav1.LabelSelectorOpIn:
			b.WriteString(r.key + " in (" + strings.Join(r.values, ",") + ")")
		case r.op == metav1.LabelSelectorOpNotIn:
			b.WriteString(r.key + " notin (" + strings.Join(r.values, ",") + ")")
		case r.op == metav1.LabelSelectorOpExists:
			b.WriteString(r.key)
		default:
			b.WriteString("!" + r.key)
		}
	}
	return b.String()
}

// exactName is the namespace that the selector names by the label kubernetes.io/metadata.name alone.
func (s selector) exactName() (string, bool) {
	if len(s) == 1 && s[0].key == nameLabel && s[0].op == metav1.LabelSelectorOpIn && len(s[0].values) == 1 {
		return s[0].values[0], true
	}
	return "", false
}

// CheckLabelKey says what is wrong with a label's key ("example.com/name" or "name").
func CheckLabelKey(key string) error {
	name := key
	if prefix, rest, ok := strings.Cut(key, "/"); ok {
		if !IsDNSName(prefix) {
			return fmt.Errorf("label key %q: the part before the slash is not a DNS name", key)
		}
		name = rest
	}
	if name == "" || !isLabelText(name) {
		return fmt.Errorf("label key %q: not 1 to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends", key)
	}
	return nil
}

// CheckLabelValue says what is wrong with a label's value; it may be empty.
func CheckLabelValue(value string) error {
	if value != "" && !isLabelText(value) {
		return fmt.Errorf("label value %q: not 63 letters, digits, '-', '_' and '.' at most, with a letter or digit at both ends", value)
	}
	return nil
}

func isLabelText(s string) bool {
	if len(s) > 63 || !alnum(s[0]) || !alnum(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !alnum(c) && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

func alnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// IsDNSName says whether s is a name in lower case of labels and dots, as most objects bear (RFC 1123).
func IsDNSName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for part := range strings.SplitSeq(s, ".") {
		if !isDNSPart(part) {
			return false
		}
	}
	return true
}

// IsDNSLabel says whether s is a name without dots of at most 63 characters, as namespaces bear.
func IsDNSLabel(s string) bool { return len(s) <= 63 && isDNSPart(s) }

func isDNSPart(s string) bool {
	if s == "" || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || 'z' < c) && (c < '0' || '9' < c) && c != '-' {
			return false
		}
	}
	return true
}

// CheckPortName says what is wrong with a port's name (RFC 6335).
func CheckPortName(s string) error {
	letter := false
	for i := range len(s) {
		c := s[i]
		letter = letter || 'a' <= c && c <= 'z'
	}
	if len(s) > 15 || !letter || !isDNSPart(s) || strings.Contains(s, "--") {
		return errors.New("a port's name is 1 to 15 lower-case letters, digits and single '-', with a letter in it")
	}
	return nil
}

// CheckRequirement says what is wrong with one of matchExpressions.
func CheckRequirement(e metav1.LabelSelectorRequirement) error {
	return requirement{e.Key, e.Operator, e.Values}.check()
}
