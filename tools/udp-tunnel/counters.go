package main

import (
	"fmt"
	"strings"
	"sync/atomic"
)

// counters are what became of packets since the program started.
type counters struct {
	out, in atomic.Uint64
	dropped [verdicts]atomic.Uint64
}

func (c *counters) count(v verdict, n uint64) { c.dropped[v].Add(n) }

// String is a line of status: "carried 12 out, 11 in; dropped 2 from no peer".
func (c *counters) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "carried %d out, %d in", c.out.Load(), c.in.Load())
	verb := "; dropped "
	for v := range verdicts {
		if n := c.dropped[v].Load(); n > 0 && v != malformed { // the kernel's IPv6 is nobody's loss
			fmt.Fprintf(&b, "%s%d %s", verb, n, verdictTexts[v])
			verb = ", "
		}
	}
	return b.String()
}
