package main

import (
	"regexp"
	"testing"

	"github.com/towpath/towpath/lib/nstest"
)

// TestReadmeExample: typed by hand, the example prints what the README says, but for the numbers of
// processes, ages and the width of columns.
func TestReadmeExample(t *testing.T) {
	out := nstest.Readme(t, level)
	guests := regexp.MustCompile(`(?m)^guest +ready +(\d+) `).FindAllStringSubmatch(out, -1)
	if len(guests) != 2 || guests[0][1] != guests[1][1] {
		t.Errorf("the guest is another process: %v", guests)
	}
}

func level(text string) string {
	text = regexp.MustCompile(`process \d+`).ReplaceAllString(text, "process N")
	text = regexp.MustCompile(`ready +\d+`).ReplaceAllString(text, "ready N")
	text = regexp.MustCompile(`\b\d+s\b`).ReplaceAllString(text, "0s")
	text = regexp.MustCompile(` +`).ReplaceAllString(text, " ")
	return text
}
