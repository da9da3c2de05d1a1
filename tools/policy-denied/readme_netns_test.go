//go:build netns

package main

import (
	"regexp"
	"testing"

	"github.com/towpath/towpath/lib/nstest"
)

var clock = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d)`)

func TestReadme(t *testing.T) {
	nstest.Readme(t, func(text string) string { return clock.ReplaceAllString(text, "TIME") })
}
