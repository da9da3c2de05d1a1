//go:build netns

package main

import (
	"testing"

	"github.com/towpath/towpath/lib/nft"
	"github.com/towpath/towpath/lib/nstest"
)

// TestGoldensPassNFT: the kernel takes each, also over any other, and lists it without a change when it comes again.
func TestGoldensPassNFT(t *testing.T) {
	n := nstest.New(t, "nft")
	n.Do(func() {
		for path, text := range variants(t) {
			if err := nft.Check(t.Context(), string(text)); err != nil {
				t.Errorf("%s: %v", path, err)
				continue
			}
			var listed [2]string
			for i := range listed {
				if err := nft.Load(t.Context(), string(text)); err != nil {
					t.Fatalf("%s: %v", path, err)
				}
				for _, family := range []string{"inet", "bridge"} {
					out, err := nft.List(t.Context(), family, "towpath-policy")
					if err != nil {
						t.Fatal(err)
					}
					listed[i] += out
				}
			}
			if listed[0] != listed[1] {
				t.Errorf("%s: loaded twice:\n%s\n%s", path, listed[0], listed[1])
			}
		}
	})
}
