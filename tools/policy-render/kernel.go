package main

import (
	"context"

	"github.com/towpath/towpath/lib/state"
)

// kernelDiff is filled in below.
func kernelDiff(ctx context.Context, dir state.Dir, o output) ([]string, error) {
	return nil, ctx.Err()
}
