package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/ruleset"
)

// settype is what the head of a set or map says.
type settype struct {
	key      key
	verdicts bool
	interval bool
	comment  string
	udata    []byte // of the key, where nft keeps more than its byte order
}

// raw is the head of the set of neighbour advertisements' targets. nft can only be told of its type by example, and
// keeps the example beside the set, in a form of its own: the tree of expressions, each with its kind.
const (
	raw      = "typeof iifname . ether saddr . @th,64,128"
	rawUdata = "000400000000" + "0356" + "00040d000000" + "014e" + "000e" + "000409000000" + "0106" + "000406000000" +
		"0114" + "000407000000" + "010c" + "000411000000" + "010402000000" +
		"0226" + "000407000000" + "011e" + "000400000000" + "010400000000" + "020403000000" + "030440000000" + "040480000000"
)

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
		case h == raw && o.Kind == ruleset.Set:
			d := datatypes
			t.key = key{parts: []*datatype{d["ifname"], d["ether_addr"], d["integer"]}, id: 41<<12 | 9<<6 | 4, size: 40}
			t.udata, err = hex.DecodeString(rawUdata)
		case h == "flags interval":
			t.interval = true
		case word == "comment":
			t.comment, err = comment(rest)
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
	b.newSet(o.Family, o.Name, t, 0, 0)
	return nil
}

func (b *batch) newSet(family, name string, t settype, flags uint32, size int) {
	ranges := t.interval && len(t.key.parts) > 1
	udata := t.udata
	if udata == nil {
		udata = binary.NativeEndian.AppendUint32([]byte{udataKeyOrder, 4}, 0)
		if len(t.key.parts) == 1 {
			binary.NativeEndian.PutUint32(udata[2:], t.key.parts[0].order)
		}
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
	if len(t.key.parts) > 1 && t.udata == nil { // an expression of kind 13, a concatenation, of which nft tells no more
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
	b.Begin(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE|unix.NLM_F_EXCL, family)
	b.Text(unix.NFTA_SET_TABLE, ruleset.Table)
	b.Text(unix.NFTA_SET_NAME, name)
	b.Uint32(unix.NFTA_SET_FLAGS, flags)
	b.Uint32(unix.NFTA_SET_KEY_TYPE, t.key.id)
	b.Uint32(unix.NFTA_SET_KEY_LEN, uint32(t.key.size))
	if t.verdicts {
		b.Uint32(unix.NFTA_SET_DATA_TYPE, dataVerdict)
		b.Uint32(unix.NFTA_SET_DATA_LEN, 0)
	}
	b.Uint32(unix.NFTA_SET_ID, b.sets)
	if size > 0 {
		b.Nest(unix.NFTA_SET_DESC, func() { b.Uint32(unix.NFTA_SET_DESC_SIZE, uint32(size)) })
	}
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
	if err == nil {
		b.put(t, e)
	}
	return err
}

func (b *batch) put(t settype, e element) {
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
