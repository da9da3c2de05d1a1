package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/ruleset"
)

// rule is a rule of the restricted grammar that policy-render writes, being compiled to what nft would make
// of it:
//
//	rule      = { match } { statement } [ comment "TEXT" ]
//	match     = fields [ "==" | "!=" ] value | fields ["!="] @SET | fields vmap @MAP
//	          | fields ( "&" | and ) NUMBER ( "==" | "!=" ) NUMBER
//	fields    = field { "." field }
//	value     = one of the field's type | FROM-TO | ADDRESS/LENGTH | names with commas (ct state)
//	statement = counter | accept | drop | return | ( jump | goto ) CHAIN
//	          | limit rate [over] N/UNIT [ burst N packets ] | log { prefix "TEXT" | group N | snaplen N }
//
// Everything else (anonymous sets above all) is left to the nft program.
type rule struct {
	family  string
	words   []string
	exprs   []expr.Any
	layer3  string
	layer4  byte
	comment string
}

func (r *rule) add(e ...expr.Any) { r.exprs = append(r.exprs, e...) }

func compileRule(family, line string) (exprs [][]byte, comment string, err error) {
	r := &rule{family: family}
	if r.words, err = split(line); err != nil {
		return nil, "", err
	}
	if len(r.words) == 0 {
		return nil, "", fmt.Errorf("an empty rule")
	}
	for len(r.words) > 0 {
		done, err := r.statement()
		if err == nil && !done {
			err = r.match()
		}
		if err != nil {
			return nil, "", err
		}
	}
	proto := map[string]byte{"inet": unix.NFPROTO_INET, "bridge": unix.NFPROTO_BRIDGE}[family]
	for _, e := range r.exprs {
		data, err := expr.Marshal(proto, e)
		if err != nil {
			return nil, "", err
		}
		exprs = append(exprs, data)
	}
	return exprs, r.comment, nil
}

// split is the words of a line; a string in quotes is one word, with its quotes.
func split(line string) ([]string, error) {
	var words []string
	for line != "" {
		end := strings.IndexByte(line, ' ')
		if line[0] == '"' {
			close := strings.IndexByte(line[1:], '"')
			if close < 0 {
				return nil, fmt.Errorf("a string does not end")
			}
			if end = close + 2; end < len(line) && line[end] != ' ' {
				return nil, fmt.Errorf("a string is followed by %q", line[end:end+1])
			}
		}
		if end < 0 || end >= len(line) {
			return append(words, line), nil
		}
		if end > 0 {
			words = append(words, line[:end])
		}
		line = line[end+1:]
	}
	return words, nil
}

// take removes the next word if it is one of those given.
func (r *rule) take(words ...string) bool {
	if len(r.words) == 0 || !slices.Contains(words, r.words[0]) {
		return false
	}
	r.words = r.words[1:]
	return true
}

func (r *rule) next() (string, error) {
	if len(r.words) == 0 {
		return "", fmt.Errorf("the line ends early")
	}
	word := r.words[0]
	r.words = r.words[1:]
	return word, nil
}

func (r *rule) number(bits int) (uint64, error) {
	word, err := r.next()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(word, 0, bits)
	if err != nil {
		return 0, fmt.Errorf("%q is no number", word)
	}
	return n, nil
}

// statement reads a statement, if one comes.
func (r *rule) statement() (done bool, err error) {
	switch word := r.words[0]; word {
	case "counter":
		r.words = r.words[1:]
		r.add(&expr.Counter{})
	case "accept", "drop", "return":
		r.words = r.words[1:]
		r.add(&expr.Verdict{Kind: expr.VerdictKind(int32(verdicts[word]))})
	case "jump", "goto":
		if len(r.words) < 2 {
			return true, fmt.Errorf("the line ends early")
		}
		chain := r.words[1]
		r.words = r.words[2:]
		r.add(&expr.Verdict{Kind: expr.VerdictKind(int32(verdicts[word])), Chain: chain})
		return true, ruleset.CheckName(chain)
	case "limit":
		return true, r.limit()
	case "log":
		return true, r.log()
	case "comment":
		r.words = r.words[1:]
		text, err := r.next()
		if err != nil {
			return true, err
		}
		r.comment, err = unquote(text)
		if err == nil && (r.comment == "" || len(r.comment) > maxComment || len(r.words) > 0) {
			err = fmt.Errorf("a comment that nft would not take")
		}
		return true, err
	default:
		return false, nil
	}
	return true, nil
}

func (r *rule) limit() error {
	r.words = r.words[1:]
	if !r.take("rate") {
		return fmt.Errorf("a limit that is no rate")
	}
	l := &expr.Limit{Type: expr.LimitTypePkts, Over: r.take("over"), Burst: 5}
	word, err := r.next()
	if err != nil {
		return err
	}
	rate, unit, _ := strings.Cut(word, "/")
	if l.Rate, err = strconv.ParseUint(rate, 10, 32); err != nil || l.Rate == 0 {
		return fmt.Errorf("%q is no rate", word)
	}
	var ok bool
	l.Unit, ok = map[string]expr.LimitTime{
		"second": expr.LimitTimeSecond, "minute": expr.LimitTimeMinute, "hour": expr.LimitTimeHour, "day": expr.LimitTimeDay,
		"week": expr.LimitTimeWeek,
	}[unit]
	if !ok {
		return fmt.Errorf("%q is no rate", word)
	}
	if r.take("burst") {
		n, err := r.number(31)
		if err != nil {
			return err
		}
		if l.Burst = uint32(n); !r.take("packets") {
			return fmt.Errorf("a burst of no packets")
		}
	}
	r.add(l)
	return nil
}

func (r *rule) log() error {
	r.words = r.words[1:]
	l := &expr.Log{}
	for {
		switch {
		case r.take("prefix"):
			word, err := r.next()
			if err != nil {
				return err
			}
			text, err := unquote(word)
			if err != nil || text == "" || len(text) > 127 || strings.ContainsAny(text, "$") {
				return fmt.Errorf("%q is no prefix of a log", word)
			}
			l.Key |= 1 << unix.NFTA_LOG_PREFIX
			l.Data = []byte(text)
		case r.take("group"):
			n, err := r.number(16)
			if err != nil {
				return err
			}
			l.Key |= 1 << unix.NFTA_LOG_GROUP
			l.Group = uint16(n)
		case r.take("snaplen"):
			n, err := r.number(32)
			if err != nil {
				return err
			}
			l.Key |= 1 << unix.NFTA_LOG_SNAPLEN
			l.Snaplen = uint32(n)
		case l.Key&(1<<unix.NFTA_LOG_GROUP) == 0:
			return fmt.Errorf("a log without a group")
		default:
			r.add(l)
			return nil
		}
	}
}

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
		return r.lookup(op)
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
