//go:build netns

package main

import (
	"regexp"
	"testing"

	"github.com/towpath/towpath/lib/nstest"
)

func TestReadme(t *testing.T) {
	left := regexp.MustCompile(`23h59m\d\ds`) // of 24h0m0s, on a slow machine
	nstest.Readme(t, func(text string) string { return left.ReplaceAllString(text, "24h0m0s") })
}
