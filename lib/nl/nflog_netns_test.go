//go:build netns

package nl

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nstest"
)

// TestWatchLog logs packets of both families to a group, which has one receiver.
func TestWatchLog(t *testing.T) {
	n := nstest.New(t, "log")
	n.Run("nft", `add table inet t; add chain inet t out { type filter hook output priority 0; };
		add rule inet t out log prefix "p1 " group 70 snaplen 40; add rule inet t out drop`)
	n.Do(func() {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		packets, err := WatchLog(ctx, 70, 128)
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := WatchLog(ctx, 70, 128); exit.Of(err) != exit.TryAgain || !strings.Contains(err.Error(), "has it, and a group has one receiver") {
			t.Errorf("a second receiver: %v", err)
		}
		if _, err := WatchLog(ctx, 71, 128); err != nil {
			t.Errorf("another group: %v", err)
		}
		for _, to := range []struct {
			addr, family string
			protocol     uint16
		}{{"127.0.0.1", "ip", 0x0800}, {"::1", "ip6", 0x86dd}} {
			_, _ = n.Try("ping", "-c1", "-W0.1", to.addr)
			select {
			case p := <-packets:
				if p.Family != to.family || p.Protocol != to.protocol || p.Prefix != "p1 " || p.Hook != 3 || len(p.Payload) != 40 ||
					DeviceName(p.Out) != "lo" || time.Since(p.Time).Abs() > time.Hour {
					t.Errorf("%s: %+v", to.addr, p)
				}
			case <-time.After(30 * time.Second):
				t.Errorf("%s: nothing was logged", to.addr)
			}
		}
	})
}
