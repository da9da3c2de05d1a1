//go:build netns

package nl

import (
	"testing"

	"github.com/towpath/towpath/lib/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m.Run) }
