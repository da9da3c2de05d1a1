package plan

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

type single struct {
	name string
	err  error
	log  *[]string
}

func (s single) String() string { return s.name }
func (s single) Do(context.Context) error {
	*s.log = append(*s.log, s.name)
	return s.err
}

type many struct{ single }

func (m many) Joins(next Op) bool {
	_, ok := next.(many)
	return ok
}

func (m many) DoMany(ctx context.Context, ops []Op) []error {
	*m.log = append(*m.log, fmt.Sprintf("%d together", len(ops)))
	errs := make([]error, len(ops))
	for i, op := range ops {
		errs[i] = op.Do(ctx)
	}
	return errs
}

func TestDo(t *testing.T) {
	refused := errors.New("refused")
	for _, tc := range []struct {
		name string
		plan string // upper case: a Many; !: it fails
		log  string
		done string
		err  string
	}{
		{"nothing", "", "", "", ""},
		{"in order", "a b", "a b", "a b", ""},
		{"stops at the first failure", "a b! c", "a b", "a", "b!: refused"},
		{"together", "a B C d", "a 2 together B C d", "a B C d", ""},
		{"one of many fails, the others and the rest go on", "A B! C d", "3 together A B C d", "A C d", "B!: refused"},
		{"both kinds fail", "A! b! c", "1 together A b", "", "A!: refused\nb!: refused"},
		{
			"very many fail", strings.Repeat("A! ", 12), "12 together" + strings.Repeat(" A", 12), "",
			strings.TrimSpace(strings.Repeat("A!: refused\n", 10)) + "\nand 2 more",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var log, done []string
			var ops []Op
			for _, name := range strings.Fields(tc.plan) {
				s := single{name: name, log: &log}
				if strings.HasSuffix(name, "!") {
					s.err = refused
				}
				if strings.ToUpper(name) == name {
					ops = append(ops, many{s})
				} else {
					ops = append(ops, s)
				}
			}
			err := Do(t.Context(), ops, func(op Op) { done = append(done, op.String()) })
			if got := strings.ReplaceAll(strings.Join(log, " "), "!", ""); got != tc.log {
				t.Errorf("did %q, want %q", got, tc.log)
			}
			if got := strings.Join(done, " "); got != tc.done {
				t.Errorf("told of %q, want %q", got, tc.done)
			}
			if got := fmt.Sprint(err); err == nil && tc.err != "" || err != nil && got != tc.err {
				t.Errorf("error %q, want %q", got, tc.err)
			}
			var e *Error
			if err != nil && (!errors.Is(err, refused) || !errors.As(err, &e)) {
				t.Errorf("error %v does not say which operation", err)
			}
		})
	}
}
