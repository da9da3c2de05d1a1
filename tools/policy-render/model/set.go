package model

// Set is a set of addresses, shared by every rule with the same content.
type Set struct {
	kind Kind
	key  string
}

// Kind is what the members are.
func (s *Set) Kind() Kind { return s.kind }

// Key is the canonical content: what decides the members.
func (s *Set) Key() string { return s.key }
