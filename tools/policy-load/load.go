package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nft"
	"github.com/towpath/towpath/lib/ruleset"
)

// replace puts the ruleset in the place of whatever the tables hold, in one transaction of the nft program, and
// returns the program's process id. What nft reads is what was read and checked before, not the files anew.
func replace(ctx context.Context, p *policy) (pid int, err error) {
	texts := []io.Reader{strings.NewReader(ruleset.Clear())}
	family := ""
	for _, o := range p.objects {
		if o.Family != family {
			texts = append(texts, strings.NewReader(ruleset.Block(family, o.Family)))
			family = o.Family
		}
		texts = append(texts, bytes.NewReader(o.text))
	}
	texts = append(texts, strings.NewReader(ruleset.Block(family, "")))
	pid, err = nft.LoadFrom(ctx, io.MultiReader(texts...))
	return pid, locate(err, p)
}

// locate makes an error about the text that replace gave to nft one about a file of the ruleset.
func locate(err error, p *policy) error {
	var e *nft.Error
	if !errors.As(err, &e) || e.Line == 0 {
		return err
	}
	line := e.Line - strings.Count(ruleset.Clear(), "\n")
	family := ""
	for _, o := range p.objects {
		if o.Family != family {
			line -= strings.Count(ruleset.Block(family, o.Family), "\n")
			family = o.Family
		}
		n := bytes.Count(o.text, []byte("\n"))
		if line >= 1 && line <= n {
			return refusal(o, line, e)
		}
		line -= n
	}
	return err
}

// refusal names the file of an object and the line in it.
func refusal(o *object, line int, e *nft.Error) error {
	at := *e
	at.Line = line
	return exit.Errorf(e.Code, "load %q: %w", "policy/"+o.path, &at)
}
