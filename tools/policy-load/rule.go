package main

import (
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
//	          | field ["!="] "{" value, … "}" | field vmap "{" value : VERDICT, … "}"
//	fields    = field { "." field }
//	value     = one of the field's type | FROM-TO | ADDRESS/LENGTH | names with commas (ct state)
//	statement = counter | accept | drop | return | ( jump | goto ) CHAIN
//	          | limit rate [over] N/UNIT [ burst N packets ] | log { prefix "TEXT" | group N | snaplen N }
//
// Everything else is left to the nft program.
type rule struct {
	family  string
	words   []string
	exprs   []expr.Any
	layer3  string
	layer4  byte
	comment string
	sets    []anonymous
	nextSet uint32 // the number that the transaction has for the next set
}

// anonymous is a set or map that is written in the rule.
type anonymous struct {
	id       uint32
	kind     *datatype
	verdicts bool
	elements []element
}

func (a anonymous) name() string {
	if a.verdicts {
		return "__map%d" // the kernel fills in a number
	}
	return "__set%d"
}

func (r *rule) add(e ...expr.Any) { r.exprs = append(r.exprs, e...) }

// compileRule compiles a line. sets is how many sets the transaction has already.
func compileRule(family, line string, sets uint32) (r *rule, exprs [][]byte, err error) {
	r = &rule{family: family, nextSet: sets + 1}
	if r.words, err = split(line); err != nil {
		return nil, nil, err
	}
	if len(r.words) == 0 {
		return nil, nil, fmt.Errorf("an empty rule")
	}
	for len(r.words) > 0 {
		done, err := r.statement()
		if err == nil && !done {
			err = r.match()
		}
		if err != nil {
			return nil, nil, err
		}
	}
	proto := map[string]byte{"inet": unix.NFPROTO_INET, "bridge": unix.NFPROTO_BRIDGE}[family]
	for _, e := range r.exprs {
		data, err := expr.Marshal(proto, e)
		if err != nil {
			return nil, nil, err
		}
		exprs = append(exprs, data)
	}
	return r, exprs, nil
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
	return number(word, bits)
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
		if r.comment, err = comment(text); err == nil && len(r.words) > 0 {
			err = fmt.Errorf("%q follows the comment", r.words[0])
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
