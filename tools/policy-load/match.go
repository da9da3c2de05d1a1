package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/ruleset"
)

// match reads a match: what it compares, how, and with what.
func (r *rule) match() error {
	f, err := r.field()
	if err != nil {
		return err
	}
	if len(r.words) > 0 && r.words[0] == "." {
		return r.concatenation(f)
	}
	if err := r.depend(f); err != nil {
		return err
	}
	switch op := r.operator(); {
	case len(r.words) == 0:
		return fmt.Errorf("the line ends early")
	case r.words[0][0] == '@' || r.words[0] == "vmap":
		r.add(f.load(unix.NFT_REG_1))
		if len(r.words) > 1 && r.words[1] == "{" {
			r.words = r.words[1:]
			return r.anonymous(f, op, true)
		}
		return r.lookup(op)
	case r.words[0] == "{":
		r.add(f.load(unix.NFT_REG_1))
		return r.anonymous(f, op, false)
	case f.bits != nil:
		return r.bits(f, op)
	case r.take("&", "and"):
		return r.masked(f)
	default:
		return r.value(f, op)
	}
}

func (r *rule) operator() expr.CmpOp {
	if r.take("!=") {
		return expr.CmpOpNeq
	}
	r.take("==")
	return expr.CmpOpEq
}

// lookup reads @SET or vmap @MAP; the key is in register 1.
func (r *rule) lookup(op expr.CmpOp) error {
	isMap := r.take("vmap")
	word, err := r.next()
	if err != nil {
		return err
	}
	name, ok := strings.CutPrefix(word, "@")
	if !ok || isMap && op != expr.CmpOpEq {
		return fmt.Errorf("%q is no set with a name", word)
	}
	r.add(&expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: name, IsDestRegSet: isMap, Invert: op == expr.CmpOpNeq})
	return ruleset.CheckName(name)
}

// anonymous reads { VALUE, … } or { VALUE : VERDICT, … }.
func (r *rule) anonymous(f *field, op expr.CmpOp, isMap bool) error {
	end := slices.Index(r.words, "}")
	if end < 2 || f.kind.id == 0 || isMap && op != expr.CmpOpEq {
		return fmt.Errorf("no set that is known here")
	}
	t := settype{key: key{parts: []*datatype{f.kind}, id: f.kind.id, size: f.kind.size}, verdicts: isMap}
	set := anonymous{id: r.nextSet, kind: f.kind, verdicts: isMap}
	for text := range strings.SplitSeq(strings.Join(r.words[1:end], " "), ", ") {
		e, err := parseElement(t, text)
		if err != nil {
			return err
		}
		set.elements = append(set.elements, e)
	}
	r.words = r.words[end+1:]
	r.nextSet++
	r.sets = append(r.sets, set)
	r.add(&expr.Lookup{
		SourceRegister: unix.NFT_REG_1, SetName: set.name(), SetID: set.id, IsDestRegSet: isMap, Invert: op == expr.CmpOpNeq,
	})
	return nil
}

// concatenation loads the fields one after the other, each into the next free four bytes.
func (r *rule) concatenation(f *field) error {
	if f == fields["meta l4proto"] {
		return fmt.Errorf("a key that begins with a protocol") // nft 1.0.6 swaps its bytes, or does not
	}
	all := []*field{f}
	for r.take(".") {
		f, err := r.field()
		if err != nil {
			return err
		}
		all = append(all, f)
	}
	for _, f := range all {
		if err := r.depend(f); err != nil {
			return err
		}
	}
	size := 0
	for _, f := range all {
		r.add(f.load(uint32(unix.NFT_REG32_00 + size/4)))
		size += padded(f.kind.size)
	}
	if size > 64 || len(r.words) == 0 {
		return fmt.Errorf("a key of %d bytes", size)
	}
	return r.lookup(r.operator())
}

// bits is a match of names with commas: any of them will do.
func (r *rule) bits(f *field, op expr.CmpOp) error {
	word, err := r.next()
	if err != nil {
		return err
	}
	var mask uint32
	for name := range strings.SplitSeq(word, ",") {
		bit, ok := f.bits[name]
		if !ok {
			return fmt.Errorf("%q is not known here", name)
		}
		mask |= bit
	}
	if op != expr.CmpOpEq {
		return fmt.Errorf("a state that is not %q", word)
	}
	r.add(f.load(unix.NFT_REG_1), bitwise(binary.NativeEndian.AppendUint32(nil, mask)),
		&expr.Cmp{Op: expr.CmpOpNeq, Register: unix.NFT_REG_1, Data: make([]byte, 4)})
	return nil
}

func bitwise(mask []byte) expr.Any {
	return &expr.Bitwise{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: uint32(len(mask)), Mask: mask, Xor: make([]byte, len(mask))}
}

// masked is FIELD & MASK == VALUE.
func (r *rule) masked(f *field) error {
	if f.kind.parse == nil || f.kind != datatypes["mark"] {
		return fmt.Errorf("a mask of something that is no mark")
	}
	var values [2][]byte
	var op expr.CmpOp
	for i := range values {
		word, err := r.next()
		if err != nil {
			return err
		}
		if values[i], err = f.kind.parse(word); err != nil {
			return err
		}
		if i == 0 {
			op = r.operator()
		}
	}
	r.add(f.load(unix.NFT_REG_1), bitwise(values[0]), &expr.Cmp{Op: op, Register: unix.NFT_REG_1, Data: values[1]})
	return nil
}

// value is a match of a single value, a range or a prefix.
func (r *rule) value(f *field, op expr.CmpOp) error {
	word, err := r.next()
	if err != nil {
		return err
	}
	from, to, single, err := f.kind.span(word)
	switch {
	case err != nil:
		return err
	case single:
		r.add(f.load(unix.NFT_REG_1), &expr.Cmp{Op: op, Register: unix.NFT_REG_1, Data: from})
		if op == expr.CmpOpEq {
			r.learn(f, from)
		}
		return nil
	case bytes.Compare(from, to) >= 0:
		return fmt.Errorf("%q is no range", word)
	case !strings.Contains(word, "/"):
		r.add(f.load(unix.NFT_REG_1))
		if op == expr.CmpOpNeq {
			r.add(&expr.Range{Op: op, Register: unix.NFT_REG_1, FromData: from, ToData: to})
		} else {
			r.add(&expr.Cmp{Op: expr.CmpOpGte, Register: unix.NFT_REG_1, Data: from}, &expr.Cmp{Op: expr.CmpOpLte, Register: unix.NFT_REG_1, Data: to})
		}
		return nil
	}
	mask := make([]byte, len(from))
	whole := 0 // bytes that are matched whole
	for i := range mask {
		mask[i] = ^(from[i] ^ to[i])
		if mask[i] == 0xff {
			whole++
		}
	}
	if whole < len(mask) && mask[whole] == 0 { // the prefix ends with a byte: less is loaded
		part := &expr.Payload{DestRegister: unix.NFT_REG_1, Base: f.base, Offset: f.offset, Len: uint32(whole)}
		r.add(part, &expr.Cmp{Op: op, Register: unix.NFT_REG_1, Data: from[:whole]})
		return nil
	}
	r.add(f.load(unix.NFT_REG_1), bitwise(mask), &expr.Cmp{Op: op, Register: unix.NFT_REG_1, Data: from})
	return nil
}
