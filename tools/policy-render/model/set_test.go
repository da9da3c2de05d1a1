package model

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestHashThatIsTakenIsSalted: whoever finds a selector whose hash is that of another set gets a set of its own.
func TestHashThatIsTakenIsSalted(t *testing.T) {
	c := New("")
	victim := &Set{kind: SelectorSet, key: "prod/{app=db}"}
	attack := selectorSet("dev", nil, nil)
	c.hashes[setHash{SelectorSet, hashOf(SelectorSet, attack.key, 0)}] = victim
	got := c.intern(attack)
	if got.Hash() == hashOf(SelectorSet, attack.key, 0) || len(got.Hash()) != 12 {
		t.Errorf("hash %s is the other set's", got.Hash())
	}
	if again := c.intern(selectorSet("dev", nil, nil)); again != got {
		t.Error("the same content is another set")
	}
}

func TestKeys(t *testing.T) {
	for _, c := range []struct {
		a, b *Set
		same bool
	}{
		{selectorSet("dev", nil, nil), selectorSet("", mustSelect(t, nameLabel, "dev"), nil), true},
		{selectorSet("dev", nil, nil), selectorSet("", mustSelect(t, nameLabel, ""), nil), false},
		{selectorSet("", nil, nil), selectorSet("", mustSelect(t, "a", "b"), nil), false},
		{selectorSet("dev", nil, mustSelect(t, "a", "b")), selectorSet("prod", nil, mustSelect(t, "a", "b")), false},
		{portSet("http", TCP, true, nil), portSet("http", UDP, true, nil), false},
	} {
		if (c.a.Key() == c.b.Key()) != c.same {
			t.Errorf("%q and %q: same should be %v", c.a.Key(), c.b.Key(), c.same)
		}
	}
}

func mustSelect(t *testing.T, key, value string) selector {
	t.Helper()
	s, err := compileSelector(&metav1.LabelSelector{MatchLabels: map[string]string{key: value}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
