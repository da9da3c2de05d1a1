package explain

import (
	"fmt"
	"strings"

	"github.com/towpath/towpath/tools/policy-render/model"
)

// Ports is a set of protocols and ports. Index 3 stands for every protocol that has no ports to NetworkPolicy:
// either all of it is in the set, as range 0 to 65535, or nothing.
type Ports [4][]span

// span is a range of ports, both ends included.
type span struct{ from, to uint16 }

var protocols = [...]model.Protocol{model.TCP, model.UDP, model.SCTP}

// everyPort is every port of every protocol.
func everyPort() Ports {
	all := []span{{0, 65535}}
	return Ports{all, all, all, all}
}

func protocolIndex(p model.Protocol) int {
	for i, known := range protocols {
		if p == known {
			return i
		}
	}
	return len(protocols)
}

// Has says whether a protocol's port is in the set.
func (p Ports) Has(proto model.Protocol, port uint16) bool {
	for _, s := range p[protocolIndex(proto)] {
		if s.from <= port && port <= s.to {
			return true
		}
	}
	return false
}

// Empty says whether nothing is in the set.
func (p Ports) Empty() bool { return len(p[0])+len(p[1])+len(p[2])+len(p[3]) == 0 }

// Every says whether everything is.
func (p Ports) Every() bool {
	for _, spans := range p {
		if len(spans) != 1 || spans[0] != (span{0, 65535}) {
			return false
		}
	}
	return true
}

func portsOf(proto model.Protocol, from, to uint16) Ports {
	var p Ports
	p[protocolIndex(proto)] = []span{{from, to}}
	return p
}

func (p Ports) union(o Ports) Ports { return p.combine(o, func(a, b bool) bool { return a || b }) }
func (p Ports) both(o Ports) Ports  { return p.combine(o, func(a, b bool) bool { return a && b }) }
func (p Ports) minus(o Ports) Ports { return p.combine(o, func(a, b bool) bool { return a && !b }) }

// combine keeps the ports for which f says so. It walks both lists of spans, which are sorted and disjoint.
func (p Ports) combine(o Ports, f func(a, b bool) bool) Ports {
	var out Ports
	for i := range p {
		a, b := p[i], o[i]
		for at := 0; at <= 65535; {
			inA, nextA := step(&a, at)
			inB, nextB := step(&b, at)
			next := min(nextA, nextB)
			if f(inA, inB) {
				if n := len(out[i]); n > 0 && int(out[i][n-1].to)+1 == at {
					out[i][n-1].to = uint16(next - 1)
				} else {
					out[i] = append(out[i], span{uint16(at), uint16(next - 1)})
				}
			}
			at = next
		}
	}
	return out
}

// step says whether at is in the first of the spans, and where that changes; spans before at are dropped.
func step(spans *[]span, at int) (in bool, next int) {
	for len(*spans) > 0 && int((*spans)[0].to) < at {
		*spans = (*spans)[1:]
	}
	switch {
	case len(*spans) == 0:
		return false, 65536
	case int((*spans)[0].from) > at:
		return false, int((*spans)[0].from)
	}
	return true, int((*spans)[0].to) + 1
}

// String is such as "TCP 80, 8000-8080; UDP", "every port" or "nothing". A protocol without ports behind it is
// every port of it.
func (p Ports) String() string {
	if p.Every() {
		return "every port"
	}
	var out []string
	for i, spans := range p {
		name := "other protocols"
		if i < len(protocols) {
			name = protocols[i].String()
		}
		switch {
		case len(spans) == 0:
		case spans[0] == span{0, 65535}:
			out = append(out, name)
		default:
			ports := make([]string, len(spans))
			for j, s := range spans {
				ports[j] = s.String()
			}
			out = append(out, name+" "+strings.Join(ports, ", "))
		}
	}
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, "; ")
}

func (s span) String() string {
	if s.from == s.to {
		return fmt.Sprint(s.from)
	}
	return fmt.Sprintf("%d-%d", s.from, s.to)
}
