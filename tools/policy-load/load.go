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
	for _, o := range p.objects {
		texts = append(texts, bytes.NewReader(o.text))
	}
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
	for _, o := range p.objects {
		n := bytes.Count(o.text, []byte("\n"))
		if line >= 1 && line <= n {
			return refusal(o, line, e)
		}
		line -= n
	}
	return err
}

// refusal names the file of an object, and the line in it where one is known.
func refusal(o *object, line int, err error) error {
	path := "policy/" + o.path
	var e *nft.Error
	if errors.As(err, &e) {
		at := *e
		at.Line, err = line, &at
	} else if line > 0 {
		text, _, _ := bytes.Cut(o.lineAt(line), []byte("\n"))
		err = &nft.Error{Line: line, Column: 1, Message: err.Error(), Source: strings.TrimSpace(string(text)), Code: exit.Of(err)}
	}
	return exit.Errorf(exit.Of(err), "load %q: %w", path, err)
}

// lineAt is the text of the object from a line on, counted from 1.
func (o *object) lineAt(line int) []byte {
	text := o.text
	for ; line > 1; line-- {
		_, text, _ = bytes.Cut(text, []byte("\n"))
	}
	return text
}
