//go:build netns

package main

import (
	"testing"

	"github.com/towpath/towpath/lib/nstest"
)

func TestReadme(t *testing.T) { nstest.Readme(t, nil) }
