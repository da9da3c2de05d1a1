package engine

import (
	"testing"

	"github.com/towpath/towpath/lib/state"
)

func TestFine(t *testing.T) {
	for _, c := range []struct {
		stage state.Stage
		want  bool
	}{
		{state.Stage{State: "ready"}, true},
		{state.Stage{State: "ready", Status: "2 peers"}, true},
		{state.Stage{State: "ready", Status: state.Failing + "no default route"}, false},
		{state.Stage{State: "done"}, true},
		{state.Stage{State: "waiting"}, false},
		{state.Stage{State: "waiting", Idle: true}, true},
		{state.Stage{State: "backoff"}, false},
	} {
		if got := Fine(c.stage); got != c.want {
			t.Errorf("%+v: %v", c.stage, got)
		}
	}
}
