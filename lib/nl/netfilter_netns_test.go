//go:build netns

package nl

import (
	"context"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/nstest"
)

func TestNFTReads(t *testing.T) {
	n := nstest.New(t, "nft")
	n.Do(func() {
		before, err := NFTGeneration()
		if err != nil {
			t.Fatal(err)
		}
		nstest.Run(t, "ip", "netns", "exec", n.Name, "nft", `table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; chain OWN { }; }`)
		after, err := NFTGeneration()
		if err != nil || after != before+1 {
			t.Errorf("generation %d, then %d, %v: want one more", before, after, err)
		}
		for _, c := range []struct {
			family, table, chain string
			want                 NFTChain
			ok                   bool
		}{
			{"ip", "filter", "FORWARD", NFTChain{Base: true, Policy: "drop"}, true},
			{"ip", "filter", "OWN", NFTChain{}, true},
			{"ip", "filter", "NONE", NFTChain{}, false},
			{"ip6", "filter", "FORWARD", NFTChain{}, false},
		} {
			got, ok, err := ReadNFTChain(c.family, c.table, c.chain)
			if err != nil || ok != c.ok || got != c.want {
				t.Errorf("chain %s %s %s: %+v, %v, %v", c.family, c.table, c.chain, got, ok, err)
			}
		}
		if ok, err := NFTTable("ip", "filter"); !ok || err != nil {
			t.Errorf("table ip filter: %v, %v", ok, err)
		}
		if ok, err := NFTTable("inet", "filter"); ok || err != nil {
			t.Errorf("table inet filter: %v, %v", ok, err)
		}
	})
}

func TestWatchNFT(t *testing.T) {
	n := nstest.New(t, "nft")
	var events <-chan NFTChange
	var generation uint32
	n.Do(func() {
		var err error
		if events, err = WatchNFT(t.Context()); err != nil {
			t.Fatal(err)
		}
		if generation, err = NFTGeneration(); err != nil {
			t.Fatal(err)
		}
	})
	for i, step := range []struct {
		command string
		objects []NFTObject
	}{
		{"table inet a { chain b { accept; }; }", []NFTObject{{"inet", "a", ""}, {"inet", "a", "b"}}},
		{"add rule inet a b drop", []NFTObject{{"inet", "a", "b"}}},
		{"add table ip6 c; add set ip6 c s { type inet_service; }", []NFTObject{{"ip6", "c", ""}}},
		{"add element ip6 c s { 80 }", []NFTObject{{"ip6", "c", ""}}},
		{"flush ruleset", []NFTObject{{"inet", "a", ""}, {"inet", "a", "b"}, {"ip6", "c", ""}}},
	} {
		n.Run("nft", step.command)
		select {
		case c := <-events:
			if c.Generation != generation+uint32(i)+1 || c.Process != "nft" || c.Lost || len(c.Objects) != len(step.objects) {
				t.Errorf("%s: %+v, from generation %d", step.command, c, generation)
			}
			for _, o := range step.objects {
				if _, ok := c.Objects[o]; !ok {
					t.Errorf("%s: %+v is not among %v", step.command, o, c.Objects)
				}
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: no event", step.command)
		}
	}
}

func TestWatchNFTSaysWhatItLost(t *testing.T) {
	n := nstest.New(t, "nft")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var events <-chan NFTChange
	n.Do(func() {
		var err error
		if events, err = WatchNFT(ctx); err != nil {
			t.Fatal(err)
		}
	})
	n.Run("nft", "add table inet first") // what reads the socket now waits for a receiver
	// More than the socket's buffer.
	big := n.Command("sh", "-c", `{ echo "table inet a { set s { type ipv4_addr; }; }"; `+
		`seq 0 60000 | awk '{ printf "add element inet a s { 10.%d.%d.%d }\n", $1/65536, ($1/256)%256, $1%256 }'; } | nft -f -`)
	if out, err := big.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	deadline := time.After(20 * time.Second)
	for {
		select {
		case c := <-events:
			if c.Lost {
				return
			}
		case <-deadline:
			t.Fatal("an overflow was not reported")
		}
	}
}

func TestWatchForwarding(t *testing.T) {
	n := nstest.New(t, "fwd")
	var events <-chan struct{}
	n.Do(func() {
		var err error
		if events, err = WatchForwarding(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	for _, name := range []string{"net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.ip_forward=0"} {
		for len(events) > 0 {
			<-events
		}
		n.Run("sysctl", "-w", name)
		select {
		case <-events:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: no event", name)
		}
	}
}

func TestLegacyTable(t *testing.T) {
	for _, family := range []struct {
		p                 Protocol
		command, src, ttl string
	}{
		{XTables4, "iptables-legacy", "10.0.0.0/8", "icmp"},
		{XTables6, "ip6tables-legacy", "fd00::/8", "icmpv6"},
	} {
		t.Run(family.command, func(t *testing.T) {
			n := nstest.New(t, "xt")
			mark := func() (mark uint64, ok bool) {
				n.Do(func() {
					var err error
					if mark, ok, err = LegacyTable(family.p, "filter"); err != nil {
						t.Fatal(err)
					}
				})
				return mark, ok
			}
			if _, ok := mark(); ok {
				t.Fatal("a table nobody made")
			}
			if _, ok := mark(); ok {
				t.Fatal("asking made the table")
			}
			n.Run(family.command, "-A", "INPUT", "-m", "limit", "--limit", "100/s", "-j", "ACCEPT")
			last, ok := mark()
			if !ok {
				t.Fatal("the table is not seen")
			}
			if again, _ := mark(); again != last {
				t.Error("the mark changes by itself")
			}
			// Counters and the state of a limit are no change.
			n.Run("ping", "-c2", "-i0.01", "-W2", map[Protocol]string{XTables4: "127.0.0.1", XTables6: "::1"}[family.p])
			if again, _ := mark(); again != last {
				t.Error("the mark changes with the counters")
			}
			for _, change := range [][]string{
				{"-P", "FORWARD", "DROP"},
				{"-A", "FORWARD", "-s", family.src, "-j", "ACCEPT"},
				{"-R", "FORWARD", "1", "-s", family.src, "-j", "DROP"},
				{"-N", "OWN"},
				{"-I", "FORWARD", "1", "-j", "OWN"},
				{"-D", "FORWARD", "-j", "OWN"},
				{"-A", "FORWARD", "-j", "OWN"},
				{"-P", "FORWARD", "ACCEPT"},
			} {
				n.Run(family.command, change...)
				now, ok := mark()
				if !ok || now == last {
					t.Errorf("%v is not seen", change)
				}
				last = now
			}
		})
	}
}

func BenchmarkNFTGeneration(b *testing.B) {
	nstest.Need(b)
	for b.Loop() {
		if _, err := NFTGeneration(); err != nil {
			b.Fatal(err)
		}
	}
}
