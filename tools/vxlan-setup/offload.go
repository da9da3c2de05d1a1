package main

import (
	"fmt"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
)

// offload is whether a device is to take packets with a checksum that is still to be filled in: the one inside of the
// tunnel, which network cards and what is behind them get wrong now and then.
type offload string

// The values of --checksum-offload, of which a device is wished to have on, off, or neither: it stays as it is.
const (
	auto   offload = "auto"
	on     offload = "on"
	off    offload = "off"
	asItIs offload = ""
)

// The verdicts.
const (
	fine    = "fine"
	fault   = "fault"
	asked   = "asked"
	unknown = "unknown" // never written down: asked again
)

func parseOffload(text string) (offload, error) {
	switch o := offload(text); o {
	case auto, on, off:
		return o, nil
	}
	return "", exit.WithHint(exit.Errorf(exit.Usage, "--checksum-offload %q: neither auto, on nor off", text),
		"auto turns it off where packets whose checksum the network card fills in do not arrive")
}

// underlay is under what a finding counts.
type underlay struct {
	name, driver string
	mtu          int
}

// counts says whether what was found still holds.
func counts(found state.ChecksumFound, under underlay) bool {
	return found.Verdict != "" && underlay{found.Uplink, found.Driver, found.MTU} == under
}

// choose says what a device is to have, and what checksum.json is to say of it. What somebody else turned off stays
// off: nothing can be found out then, and he will have had his reason.
func choose(mode offload, found state.ChecksumFound) (offload, state.ChecksumFound) {
	switch {
	case mode == on:
		return on, state.ChecksumFound{}
	case mode == off:
		return off, state.ChecksumFound{Off: true, Verdict: asked}
	case found.Off:
		return off, found
	}
	return asItIs, found
}

// offloads completes what is wanted of the devices, tells the prober about which of them a verdict is wanted, and
// returns what checksum.json is to hold.
func (s *step) offloads(want []device, have observed, uplink nl.Link) state.Checksum {
	under := underlay{name: uplink.Name, mtu: uplink.MTU}
	if s.mode == auto {
		under.driver, _ = nl.Driver(uplink.Name) // one without a name is as good as any
	}
	say := state.Checksum{Version: state.Version}
	var devices state.Pair[state.Device]
	var targets []target
	for i, w := range want {
		f := state.FamilyOf(w.Address.Addr())
		found := have.Found.Device.Of(f)
		fresh, is, trying := s.prober.state(f)
		if is {
			found = fresh
		}
		want[i].Offload, found = choose(s.mode, found)
		if trying {
			want[i].Offload = asItIs
		}
		say.Device.Set(f, found)
		devices.Set(f, state.Device{Name: w.Name})
		if stands := have.VXLANs[w.Name]; s.mode == auto && stands.Up && !counts(found, under) && (found.Off || have.Offloads[w.Name] == on) {
			targets = append(targets, target{f, w.Name, stands.Index, w.Address.Addr(), under, found})
		}
	}
	s.prober.want(targets)
	s.mu.Lock()
	s.remark = remark(s.mode, devices, say)
	s.mu.Unlock()
	return say
}

// writeDown appends the write of checksum.json, or its removal where there is nothing to say.
func (s *step) writeDown(ops []plan.Op, found state.Checksum) ([]plan.Op, error) {
	op := state.RemoveOp(s.run.Checksum())
	if found.Device != (state.Pair[state.ChecksumFound]{}) {
		var err error
		if op, err = state.WriteOp(s.run.Checksum(), found); err != nil {
			return nil, err
		}
	}
	if op == nil {
		s.prober.written(found)
		return ops, nil
	}
	return append(ops, op), nil
}

// remark is what the line of status says after "ok".
func remark(mode offload, devices state.Pair[state.Device], found state.Checksum) string {
	var parts []string
	for _, f := range state.Families {
		if is := found.Device.Of(f); mode == auto && is.Off {
			why := "as it was asked to be before"
			if is.Verdict == fault {
				why = "with it packets are lost (" + is.Seen + ")"
			}
			parts = append(parts, fmt.Sprintf("; checksum offload of %s is off: %s", devices.Of(f).Name, why))
		}
	}
	return strings.Join(parts, "")
}
