package main

import (
	"fmt"
	"testing"
)

func peers(n int) *engine {
	e := world(typeVXLAN, false)
	for i := range n {
		e.put(peerOf(i + 1))
	}
	return e
}

// BenchmarkDiff is the comparison alone: everything with everything, then one peer's.
func BenchmarkDiff(b *testing.B) {
	for _, n := range []int{100, 5000} {
		e := peers(n)
		e.rebuild()
		e.perform(e.diff(nil))
		b.Run(fmt.Sprintf("all/peers=%d", n), func(b *testing.B) {
			for b.Loop() {
				if len(e.diff(nil)) > 0 {
					b.Fatal("not settled")
				}
			}
		})
		b.Run(fmt.Sprintf("one/peers=%d", n), func(b *testing.B) {
			for b.Loop() {
				if len(e.diff(e.update([]string{"n7"}))) > 0 {
					b.Fatal("not settled")
				}
			}
		})
		b.Run(fmt.Sprintf("rebuild/peers=%d", n), func(b *testing.B) {
			for b.Loop() {
				e.rebuild()
			}
		})
	}
}
