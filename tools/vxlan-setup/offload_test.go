package main

import (
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

func TestJudge(t *testing.T) {
	good := tally{node: "good", offloaded: count{3, 3}, complete: count{3, 3}}
	rationed := tally{node: "rationed", offloaded: count{5, 1}, complete: count{5, 0}}
	broken := tally{node: "broken", offloaded: count{16, 0}, complete: count{16, 15}}
	silent := tally{node: "silent", offloaded: count{3, 0}, complete: count{3, 0}}
	lossy := tally{node: "lossy", offloaded: count{16, 0}, complete: count{16, 9}}
	ended := tally{node: "ended", offloaded: count{15, 0}, complete: count{15, 15}}
	for _, tc := range []struct {
		name    string
		tallies []tally
		verdict string
		seen    string
	}{
		{"nobody", nil, unknown, ""},
		{"arrives", []tally{silent, good}, fine, "good: offloaded 3/3 answered, complete 3/3"},
		{"answers are rationed", []tally{rationed}, fine, "rationed: offloaded 1/5 answered, complete 0/5"},
		{"does not arrive", []tally{broken}, fault, "broken: offloaded 0/16 answered, complete 15/16"},
		{"does not arrive at one of them", []tally{good, broken, silent}, fault, "broken: offloaded 0/16 answered, complete 15/16"},
		{"all of it may be loss", []tally{lossy, silent}, unknown, ""},
		{"not asked to the end", []tally{ended}, unknown, ""},
	} {
		if verdict, seen := judge(tc.tallies); verdict != tc.verdict || seen != tc.seen {
			t.Errorf("%s: %s %q", tc.name, verdict, seen)
		}
	}
}

func TestChooseOffload(t *testing.T) {
	here := underlay{"eth0", "vmxnet3", 1500}
	found := func(verdict string, turnedOff bool) state.ChecksumFound {
		return state.ChecksumFound{Off: turnedOff, Verdict: verdict, Uplink: "eth0", Driver: "vmxnet3", MTU: 1500}
	}
	for _, tc := range []struct {
		name  string
		mode  offload
		found state.ChecksumFound
		wish  offload
		say   state.ChecksumFound
		open  bool // a verdict is wanted
	}{
		{"on", on, found(fault, true), on, state.ChecksumFound{}, true},
		{"off", off, state.ChecksumFound{}, off, state.ChecksumFound{Off: true, Verdict: asked}, true},
		{"nothing is known", auto, state.ChecksumFound{}, asItIs, state.ChecksumFound{}, true},
		{"it works", auto, found(fine, false), asItIs, found(fine, false), false},
		{"it does not", auto, found(fault, true), off, found(fault, true), false},
		{"it was off, and nobody could tell", auto, found(asked, true), off, found(asked, true), false},
		{"it was off", auto, state.ChecksumFound{Off: true, Verdict: asked}, off, state.ChecksumFound{Off: true, Verdict: asked}, true},
	} {
		wish, say := choose(tc.mode, tc.found)
		if wish != tc.wish || say != tc.say || counts(say, here) == tc.open {
			t.Errorf("%s: %q, %+v, counts %t", tc.name, wish, say, counts(say, here))
		}
	}
	for _, other := range []underlay{{"eth1", "vmxnet3", 1500}, {"eth0", "e1000", 1500}, {"eth0", "vmxnet3", 9000}} {
		if counts(found(fault, true), other) {
			t.Errorf("counts for %+v too", other)
		}
	}
}

func TestOffloadInThePlan(t *testing.T) {
	for _, tc := range []struct {
		name string
		have observed
		wish offload
		want string
	}{
		{"made anew without it", uplink(), off, strings.Replace(fresh, "ip addr", "ethtool -K flannel.1 tx-checksum-ip-generic off\nip addr", 1)},
		{"made with it", uplink(), on, fresh},
		{"drifted", withOffload(on), off, "ethtool -K flannel.1 tx-checksum-ip-generic off\n"},
		{"drifted the other way", withOffload(off), on, "ethtool -K flannel.1 tx-checksum-ip-generic on\n"},
		{"as asked", withOffload(off), off, ""},
		{"nobody asks", withOffload(off), asItIs, ""},
		{"the kernel does not say", with(uplink(), nil), off, "ethtool -K flannel.1 tx-checksum-ip-generic off\n"},
	} {
		want, _, err := decide("vxlan.json", input(), tc.have, false)
		if err != nil {
			t.Fatal(err)
		}
		want[0].Offload = tc.wish
		if got := texts(Diff(new(nl.Conn), want, tc.have)); got != tc.want {
			t.Errorf("%s:\n%s", tc.name, got)
		}
	}
}

func withOffload(is offload) observed {
	o := with(uplink(), nil)
	o.Offloads = map[string]offload{"flannel.1": is}
	return o
}

func TestRemark(t *testing.T) {
	devices := state.Pair[state.Device]{IPv4: state.Device{Name: "flannel.1"}, IPv6: state.Device{Name: "flannel-v6.1"}}
	found := state.Checksum{}
	found.Device.IPv4 = state.ChecksumFound{Off: true, Verdict: fault, Seen: "worker02: offloaded 0/16 answered, complete 16/16"}
	found.Device.IPv6 = state.ChecksumFound{Verdict: fine, Seen: "worker02: offloaded 3/3 answered, complete 3/3"}
	const want = "; checksum offload of flannel.1 is off: with it packets are lost (worker02: offloaded 0/16 answered, complete 16/16)"
	if got := remark(auto, devices, found); got != want {
		t.Errorf("%q", got)
	}
	if got := remark(on, devices, found) + remark(auto, devices, state.Checksum{}); got != "" {
		t.Errorf("%q", got)
	}
}

// TestWritten: a verdict that comes while another is written down is not taken for written.
func TestWritten(t *testing.T) {
	p := newProber("", nil)
	v4, v6 := state.ChecksumFound{Verdict: fine, Uplink: "eth0"}, state.ChecksumFound{Verdict: fault, Off: true, Uplink: "eth0"}
	p.found[state.IPv4], p.found[state.IPv6] = v4, v6
	p.written(state.Checksum{Device: state.Pair[state.ChecksumFound]{IPv4: v4}})
	if _, is, _ := p.state(state.IPv4); is {
		t.Error("what is written down waits")
	}
	if found, is, _ := p.state(state.IPv6); !is || found != v6 {
		t.Errorf("the other is lost: %+v", found)
	}
}

// TestJudged: a device is not asked about again between the writing down of its verdict and the news that none is wanted.
func TestJudged(t *testing.T) {
	p := newProber("", nil)
	one := target{family: state.IPv4, device: "flannel.1"}
	p.want([]target{one})
	if p.isJudged(one) {
		t.Error("nothing was found yet")
	}
	p.found[one.family] = state.ChecksumFound{Verdict: fine}
	if !p.isJudged(one) {
		t.Error("what was found is to be acted upon first")
	}
	p.want(nil)
	p.written(state.Checksum{Device: state.Pair[state.ChecksumFound]{IPv4: p.found[one.family]}})
	if !p.isJudged(one) {
		t.Error("nobody wants to know any longer")
	}
}
