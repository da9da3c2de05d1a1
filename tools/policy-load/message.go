package main

import (
	"fmt"
	"regexp"
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

// compileAll makes a batch that puts a ruleset in the place of whatever the tables hold. The objects' parts are added in
// the order of diff, without a list of all changes: that would be as large as the ruleset.
func compileAll(p *policy) (*batch, error) {
	b := &batch{types: map[*object]settype{}}
	size := 0
	for _, o := range p.objects { // an element takes about as much as its text, a rule some five times that
		if size += len(o.text); o.Kind == ruleset.Chain {
			size += 4*len(o.text) + 200
		}
	}
	b.Grow(size)
	for _, family := range ruleset.Families {
		b.table(unix.NFT_MSG_NEWTABLE, family)
		b.table(unix.NFT_MSG_DELTABLE, family)
		b.table(unix.NFT_MSG_NEWTABLE, family)
	}
	part := make([]change, 0, 512)
	flush := func() error {
		for i := 0; i < len(part); {
			n, err := b.add(part[i:])
			if err != nil {
				return &outside{part[i], err}
			}
			i += n
		}
		part = part[:0]
		return nil
	}
	fill := func(verb verb, kind ruleset.Kind) error {
		for _, o := range p.objects {
			if o.Kind != kind {
				continue
			}
			number := o.first
			for line := range o.lines() {
				part = append(part, change{verb: verb, object: o, line: line, number: number})
				if number++; len(part) == cap(part) {
					if err := flush(); err != nil {
						return err
					}
				}
			}
			if err := flush(); err != nil {
				return err
			}
		}
		return nil
	}
	for _, o := range p.objects {
		c := change{verb: addObject, object: o}
		if _, err := b.add([]change{c}); err != nil {
			return nil, &outside{c, err}
		}
	}
	err := fill(addElement, ruleset.Set)
	if err == nil {
		err = fill(addRule, ruleset.Chain)
	}
	if err == nil {
		err = fill(addElement, ruleset.Map)
	}
	return b, err
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
	r, exprs, err := compileRule(c.object.Family, string(c.line), b.sets)
	if err != nil {
		return err
	}
	for _, set := range r.sets {
		b.anonymous(c.object.Family, set)
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
	if r.comment != "" {
		b.Bytes(unix.NFTA_RULE_USERDATA, udataText(nil, udataRuleComment, r.comment))
	}
	if c.verb == insertRule {
		b.Uint64(unix.NFTA_RULE_POSITION, c.handle)
	}
	return nil
}

// anonymous makes the set or map that a rule has inside.
func (b *batch) anonymous(family string, set anonymous) {
	t := settype{key: key{parts: []*datatype{set.kind}, id: set.kind.id, size: set.kind.size}, verdicts: set.verdicts}
	b.newSet(family, set.name(), t, unix.NFT_SET_ANONYMOUS|unix.NFT_SET_CONSTANT, len(set.elements))
	b.Begin(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, family)
	b.Text(unix.NFTA_SET_ELEM_LIST_TABLE, ruleset.Table)
	b.Text(unix.NFTA_SET_ELEM_LIST_SET, set.name())
	b.Uint32(unix.NFTA_SET_ELEM_LIST_SET_ID, set.id)
	b.Nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
		for _, e := range set.elements {
			b.put(t, e)
		}
	})
}

// table makes or deletes a table.
func (b *batch) table(kind int, family string) {
	b.Begin(kind, unix.NLM_F_CREATE, family)
	b.Text(unix.NFTA_TABLE_NAME, ruleset.Table)
}

// hooks by name; a bridge's have the same numbers.
var hooks = map[string]uint32{"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}

// filterPriority is what nft calls "filter", by family.
var filterPriority = map[string]string{"inet": "0", "bridge": "-200"}

// baseChain is "type filter hook HOOK priority PRIORITY; policy VERDICT;".
var baseChain = regexp.MustCompile(`^type filter hook ([a-z]+) priority (filter|-?[0-9]{1,9}); policy (accept|drop);$`)

func (b *batch) chain(o *object) error {
	about, base := "", []string(nil)
	for _, h := range o.head {
		if m := baseChain.FindStringSubmatch(h); m != nil && base == nil {
			base = m
			continue
		}
		text, ok := strings.CutPrefix(h, "comment ")
		if !ok {
			return fmt.Errorf("%q is not known here", h)
		}
		var err error
		if about, err = comment(strings.TrimSuffix(text, ";")); err != nil {
			return err
		}
	}
	b.Begin(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE|unix.NLM_F_EXCL, o.Family)
	b.Text(unix.NFTA_CHAIN_TABLE, ruleset.Table)
	b.Text(unix.NFTA_CHAIN_NAME, o.Name)
	if base != nil {
		hook, ok := hooks[base[1]]
		if base[2] == "filter" {
			base[2] = filterPriority[o.Family]
		}
		priority, err := strconv.ParseInt(base[2], 10, 32)
		if !ok || err != nil {
			return fmt.Errorf("%q is not known here", base[0])
		}
		b.Text(unix.NFTA_CHAIN_TYPE, "filter")
		b.Uint32(unix.NFTA_CHAIN_POLICY, verdicts[base[3]])
		b.Nest(unix.NFTA_CHAIN_HOOK, func() {
			b.Uint32(unix.NFTA_HOOK_HOOKNUM, hook)
			b.Uint32(unix.NFTA_HOOK_PRIORITY, uint32(int32(priority)))
		})
	}
	if about != "" {
		b.Bytes(attrChainUserdata, udataText(nil, udataChainComment, about))
	}
	return nil
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
