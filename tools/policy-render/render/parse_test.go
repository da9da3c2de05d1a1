package render

import (
	"regexp"
	"slices"

	"github.com/towpath/towpath/lib/ruleset"
)

var (
	quoted    = regexp.MustCompile(`"[^"]*"`)
	reference = regexp.MustCompile(`@([a-z][^\s,]*)|(?:goto|jump) (\S+)`)
)

// references are the names of the sets, maps and chains that an object's rules or verdicts name.
func references(o *ruleset.Object) []string {
	var out []string
	for _, l := range o.Lines {
		for _, m := range reference.FindAllStringSubmatch(quoted.ReplaceAllString(l, `""`), -1) {
			if name := m[1] + m[2]; name != "th" {
				out = append(out, regexp.MustCompile(`[,}]$`).ReplaceAllString(name, ""))
			}
		}
	}
	slices.Sort(out)
	return slices.DeleteFunc(slices.Compact(out), func(n string) bool { return n == "th,64,128" || n == "" })
}
