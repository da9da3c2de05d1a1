package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/ruleset"
)

// Kinds of user data, in which nft keeps what the kernel does not need (libnftnl/udata.h).
const (
	udataRuleComment  = 0
	udataChainComment = 0
	udataElemComment  = 0
	udataElemFlags    = 1 // 1: a range without an end
	udataKeyOrder     = 0
	udataDataOrder    = 1
	udataKeyTypeof    = 3
	udataDataInterval = 6
	udataSetComment   = 7
)

// dataVerdict is the type of a map's data that is a verdict (NFT_DATA_VERDICT).
const dataVerdict = 0xffffff00

// Attributes that x/sys/unix does not name.
const (
	attrChainUserdata = 12 // NFTA_CHAIN_USERDATA
	attrSetElemKeyEnd = 10 // NFTA_SET_ELEM_KEY_END
	attrConcat        = 2  // NFTA_SET_DESC_CONCAT
	attrFieldLen      = 1  // NFTA_SET_FIELD_LEN
	flagConcat        = 0x80
)

// maxMessage is when a list of elements is continued in another message: an attribute's length has 16 bits.
const maxMessage = 32 << 10

// batch makes changes into messages of the kernel.
type batch struct {
	nl.NFTBatch
	changes []int // by message, the first change that it holds
	sets    uint32
	last    change // what the message that is open holds elements of
	types   map[*object]settype
}

// outside is a line that is outside the grammar that is compiled here; the nft program may know it.
type outside struct {
	change change
	err    error
}

func (e *outside) Error() string {
	return fmt.Sprintf("%s line %d is outside the compiled grammar: %v: %q", e.change.object.path, e.change.number, e.err, e.change.line)
}

// compile makes a batch of changes, or says which is outside the grammar.
func compile(changes []change) (*batch, error) {
	b := &batch{types: map[*object]settype{}}
	for i := 0; i < len(changes); {
		n, err := b.add(changes[i:])
		if err != nil {
			return nil, &outside{changes[i], err}
		}
		for len(b.changes) < b.Messages() {
			b.changes = append(b.changes, i)
		}
		i += n
	}
	return b, nil
}

// add compiles the first change, or as many changes of elements as go into one message.
func (b *batch) add(changes []change) (n int, err error) {
	c := changes[0]
	o := c.object
	switch c.verb {
	case addElement, deleteElement:
		return b.elements(changes)
	case addObject:
		if o.Kind == ruleset.Chain {
			return 1, b.chain(o)
		}
		return 1, b.set(o)
	case deleteObject:
		if o.Kind == ruleset.Chain {
			b.Begin(unix.NFT_MSG_DELCHAIN, 0, o.Family)
			b.Text(unix.NFTA_CHAIN_TABLE, ruleset.Table)
			b.Text(unix.NFTA_CHAIN_NAME, o.Name)
		} else {
			b.Begin(unix.NFT_MSG_DELSET, 0, o.Family)
			b.Text(unix.NFTA_SET_TABLE, ruleset.Table)
			b.Text(unix.NFTA_SET_NAME, o.Name)
		}
	case flushChain, deleteRule:
		b.Begin(unix.NFT_MSG_DELRULE, 0, o.Family)
		b.Text(unix.NFTA_RULE_TABLE, ruleset.Table)
		b.Text(unix.NFTA_RULE_CHAIN, o.Name)
		if c.verb == deleteRule {
			b.Uint64(unix.NFTA_RULE_HANDLE, c.handle)
		}
	case addRule, insertRule:
		return 1, b.rule(c)
	}
	return 1, nil
}

func (b *batch) rule(c change) error {
	exprs, comment, err := compileRule(c.object.Family, string(c.line))
	if err != nil {
		return err
	}
	flags := uint16(unix.NLM_F_CREATE)
	if c.verb == addRule {
		flags |= unix.NLM_F_APPEND
	}
	b.Begin(unix.NFT_MSG_NEWRULE, flags, c.object.Family)
	b.Text(unix.NFTA_RULE_TABLE, ruleset.Table)
	b.Text(unix.NFTA_RULE_CHAIN, c.object.Name)
	b.Nest(unix.NFTA_RULE_EXPRESSIONS, func() {
		for _, e := range exprs {
			b.Bytes(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, e)
		}
	})
	if comment != "" {
		b.Bytes(unix.NFTA_RULE_USERDATA, udataText(nil, udataRuleComment, comment))
	}
	if c.verb == insertRule {
		b.Uint64(unix.NFTA_RULE_POSITION, c.handle)
	}
	return nil
}

// chain makes a regular chain. A base chain is made with the table, by nft.
func (b *batch) chain(o *object) error {
	comment := ""
	for _, h := range o.head {
		text, ok := strings.CutPrefix(h, "comment ")
		if !ok {
			return fmt.Errorf("%q is no head of a regular chain", h)
		}
		var err error
		if comment, err = unquote(strings.TrimSuffix(text, ";")); err != nil {
			return err
		}
	}
	b.Begin(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE|unix.NLM_F_EXCL, o.Family)
	b.Text(unix.NFTA_CHAIN_TABLE, ruleset.Table)
	b.Text(unix.NFTA_CHAIN_NAME, o.Name)
	if comment != "" {
		b.Bytes(attrChainUserdata, udataText(nil, udataChainComment, comment))
	}
	return nil
}

// settype is what the head of a set or map says.
type settype struct {
	key      key
	verdicts bool
	interval bool
	comment  string
}

func typeOf(o *object) (t settype, err error) {
	for _, h := range o.head {
		h = strings.TrimSuffix(h, ";")
		word, rest, _ := strings.Cut(h, " ")
		switch {
		case word == "type" && o.Kind == ruleset.Map:
			rest, t.verdicts = strings.CutSuffix(rest, " : verdict")
			if !t.verdicts {
				return t, fmt.Errorf("%q maps to no verdict", h)
			}
			t.key, err = keyOfType(rest)
		case word == "type":
			t.key, err = keyOfType(rest)
		case h == "flags interval":
			t.interval = true
		case word == "comment":
			t.comment, err = unquote(rest)
		default:
			return t, fmt.Errorf("%q is not known here", h)
		}
		if err != nil {
			return t, err
		}
	}
	if t.key.id == 0 {
		return t, fmt.Errorf("no type")
	}
	return t, nil
}

// set makes a set or map, with the user data that nft would give it.
func (b *batch) set(o *object) error {
	t, err := typeOf(o)
	if err != nil {
		return err
	}
	ranges := t.interval && len(t.key.parts) > 1
	var flags uint32
	udata := binary.NativeEndian.AppendUint32([]byte{udataKeyOrder, 4}, 0)
	if len(t.key.parts) == 1 {
		binary.NativeEndian.PutUint32(udata[2:], t.key.parts[0].order)
	}
	if t.interval {
		flags |= unix.NFT_SET_INTERVAL
	}
	if ranges {
		flags |= flagConcat
	}
	if t.verdicts {
		flags |= unix.NFT_SET_MAP
		udata = append(udata, udataDataOrder, 4, 0, 0, 0, 0)
	}
	if len(t.key.parts) > 1 { // an expression of kind 13, a concatenation, of which nft tells no more
		udata = binary.NativeEndian.AppendUint32(append(udata, udataKeyTypeof, 8, 0, 4), 13)
		udata = append(udata, 1, 0)
	}
	if t.verdicts {
		udata = append(udata, udataDataInterval, 4, 0, 0, 0, 0)
	}
	if t.comment != "" {
		udata = udataText(udata, udataSetComment, t.comment)
	}
	b.sets++
	b.Begin(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE|unix.NLM_F_EXCL, o.Family)
	b.Text(unix.NFTA_SET_TABLE, ruleset.Table)
	b.Text(unix.NFTA_SET_NAME, o.Name)
	b.Uint32(unix.NFTA_SET_FLAGS, flags)
	b.Uint32(unix.NFTA_SET_KEY_TYPE, t.key.id)
	b.Uint32(unix.NFTA_SET_KEY_LEN, uint32(t.key.size))
	if t.verdicts {
		b.Uint32(unix.NFTA_SET_DATA_TYPE, dataVerdict)
		b.Uint32(unix.NFTA_SET_DATA_LEN, 0)
	}
	b.Uint32(unix.NFTA_SET_ID, b.sets)
	if ranges {
		b.Nest(unix.NFTA_SET_DESC, func() {
			b.Nest(attrConcat, func() {
				for _, p := range t.key.parts {
					b.Nest(unix.NFTA_LIST_ELEM, func() { b.Uint32(attrFieldLen, uint32(p.size)) })
				}
			})
		})
	}
	b.Bytes(unix.NFTA_SET_USERDATA, udata)
	return nil
}

// elements puts the elements that one set gains, or loses, into one message.
func (b *batch) elements(changes []change) (n int, err error) {
	c := changes[0]
	o := c.object
	t, ok := b.types[o]
	if !ok {
		if t, err = typeOf(o); err != nil {
			return 0, err
		}
		b.types[o] = t
	}
	if c.verb == addElement {
		b.Begin(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE|unix.NLM_F_EXCL, o.Family)
	} else {
		b.Begin(unix.NFT_MSG_DELSETELEM, 0, o.Family)
	}
	b.Text(unix.NFTA_SET_ELEM_LIST_TABLE, ruleset.Table)
	b.Text(unix.NFTA_SET_ELEM_LIST_SET, o.Name)
	b.Nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
		for n < len(changes) && changes[n].object == o && changes[n].verb == c.verb && b.Len() < maxMessage {
			if err = b.element(t, string(changes[n].line)); err != nil {
				return
			}
			n++
		}
	})
	return n, err
}

func (b *batch) element(t settype, line string) error {
	e, err := parseElement(t, line)
	if err != nil {
		return err
	}
	var udata []byte
	if e.comment != "" {
		udata = udataText(nil, udataElemComment, e.comment)
	}
	openEnd := false
	var end []byte
	if t.interval && len(t.key.parts) == 1 {
		end, openEnd = following(e.to)
	}
	if openEnd {
		udata = binary.NativeEndian.AppendUint32(append(udata, udataElemFlags, 4), 1)
	}
	b.Nest(unix.NFTA_LIST_ELEM, func() {
		b.Nest(unix.NFTA_SET_ELEM_KEY, func() { b.Bytes(unix.NFTA_DATA_VALUE, e.from) })
		if t.interval && len(t.key.parts) > 1 {
			b.Nest(attrSetElemKeyEnd, func() { b.Bytes(unix.NFTA_DATA_VALUE, e.to) })
		}
		if e.verdict != "" {
			b.Nest(unix.NFTA_SET_ELEM_DATA, func() {
				b.Nest(unix.NFTA_DATA_VERDICT, func() {
					b.Uint32(unix.NFTA_VERDICT_CODE, verdicts[e.verdict])
					if e.chain != "" {
						b.Text(unix.NFTA_VERDICT_CHAIN, e.chain)
					}
				})
			})
		}
		if udata != nil {
			b.Bytes(unix.NFTA_SET_ELEM_USERDATA, udata)
		}
	})
	if end != nil && !openEnd {
		b.Nest(unix.NFTA_LIST_ELEM, func() {
			b.Uint32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
			b.Nest(unix.NFTA_SET_ELEM_KEY, func() { b.Bytes(unix.NFTA_DATA_VALUE, end) })
		})
	}
	return nil
}

// following is the key after one; openEnd: there is none.
func following(last []byte) (next []byte, openEnd bool) {
	next = bytes.Clone(last)
	for i := len(next) - 1; i >= 0; i-- {
		if next[i]++; next[i] != 0 {
			return next, false
		}
	}
	return next, true
}

// element is an element of a set or map.
type element struct {
	from, to []byte
	comment  string
	verdict  string // of a map
	chain    string // that the verdict names
}

func parseElement(t settype, line string) (e element, err error) {
	rest := ""
	if text, after, ok := strings.Cut(line, ` comment "`); ok {
		line = text
		if e.comment, rest, ok = strings.Cut(after, `"`); !ok || e.comment == "" || len(e.comment) > maxComment {
			return e, fmt.Errorf("a comment that nft would not take")
		}
	} else {
		line, rest, ok = strings.Cut(line, " : ")
		if ok {
			rest = " : " + rest
		}
	}
	if e.from, e.to, err = t.key.span(line); err != nil {
		return e, err
	}
	verdict, isVerdict := strings.CutPrefix(rest, " : ")
	switch order := bytes.Compare(e.from, e.to); {
	case order > 0, order < 0 && !t.interval:
		return e, fmt.Errorf("%q is no element of such a set", line)
	case isVerdict != t.verdicts, !isVerdict && rest != "":
		return e, fmt.Errorf("%q follows the key", rest)
	case !isVerdict:
		return e, nil
	}
	e.verdict, e.chain, _ = strings.Cut(verdict, " ")
	return e, checkVerdict(e.verdict, e.chain)
}

// maxComment is the longest comment that nft takes, bytes.
const maxComment = 128

// udataText appends a string as user data.
func udataText(b []byte, kind byte, s string) []byte {
	return append(append(append(b, kind, byte(len(s)+1)), s...), 0)
}

// verdicts by name, as the kernel has them.
var verdicts = map[string]uint32{
	"drop": 0, "accept": 1, "continue": 0xffffffff, "jump": 0xfffffffd, "goto": 0xfffffffc, "return": 0xfffffffb,
}

func checkVerdict(verdict, chain string) error {
	if _, ok := verdicts[verdict]; !ok {
		return fmt.Errorf("%q is no verdict", verdict)
	}
	if leads := verdict == "jump" || verdict == "goto"; leads {
		return ruleset.CheckName(chain)
	} else if chain != "" {
		return fmt.Errorf("%s %s: takes no chain", verdict, strconv.Quote(chain))
	}
	return nil
}
