package stage

import (
	"fmt"
	"regexp"
	"strings"
)

// Lookup finds the value of an environment variable.
type Lookup func(name string) (value string, ok bool)

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Expand replaces ${NAME} and ${NAME:-default} (used where NAME is unset or empty) in s; $$ is a
// dollar. Anything else after a dollar is refused, so that a typing error is not passed on as text.
func Expand(s string, look Lookup) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(s, "$")
		out.WriteString(before)
		switch {
		case !found:
			return out.String(), nil
		case strings.HasPrefix(rest, "$"):
			out.WriteByte('$')
			s = rest[1:]
			continue
		case !strings.HasPrefix(rest, "{"):
			return "", fmt.Errorf("a lone %q: write ${NAME} for a variable, $$ for a dollar", "$")
		}
		body, after, closed := strings.Cut(rest[1:], "}")
		if !closed {
			return "", fmt.Errorf("%q has no end", "${"+body)
		}
		name, fallback, hasFallback := strings.Cut(body, ":-")
		if !variable.MatchString(name) {
			return "", fmt.Errorf("%q is no name of a variable", name)
		}
		value, ok := look(name)
		switch {
		case hasFallback && (!ok || value == ""):
			value = fallback
		case !ok:
			return "", fmt.Errorf("variable %q is not set: set it, or write ${%s:-DEFAULT}", name, name)
		}
		out.WriteString(value)
		s = after
	}
}
