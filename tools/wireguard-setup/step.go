package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/towpath/towpath/lib/keep"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/setup"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
)

type step struct {
	env       *tool.Env
	conn      *nl.Conn
	control   *control
	userspace bool
	key       keyFile
	files     *files
	carriers  map[string]*carrier // by device; only watch has any
	dead      chan string         // told of carriers that ended

	// What the last pass found.
	have    observed
	input   state.BackendInput
	set     settings
	all     common
	want    []tunnel
	leftOut map[string]string // node: reason
	silent  silence

	mu      sync.Mutex
	watched map[string]bool // names of devices
	indexes map[int]bool
}

// Close is io.Closer.
func (s *step) Close() error {
	for _, c := range s.carriers {
		c.Close()
	}
	s.control.Close() //nolint:errcheck // nothing is pending
	return s.conn.Close()
}

// Plan is tool.Step.
func (s *step) Plan(context.Context) ([]plan.Op, error) {
	path := s.env.RunDir.Backend(backend)
	in, err := setup.Input(s.env.RunDir, backend)
	if err != nil {
		return nil, err
	}
	set, all, err := settingsOf(path, in)
	if err != nil {
		return nil, err
	}
	if s.have, err = s.observe(); err != nil {
		return nil, err
	}
	key, ops, err := s.key.read(s.deviceKey())
	if err != nil {
		return nil, err
	}
	want, link, err := tunnelsOf(path, in, set, s.have, key)
	s.watch(in, want)
	if err != nil {
		return nil, err
	}
	d := s.differ()
	if err := refuse(want, s.have, d.kind, s.env.Bool("take-over")); err != nil {
		return nil, err
	}
	if err := s.files.readAll(); err != nil {
		return nil, err
	}
	s.input, s.set, s.all, s.want = in, set, all, want
	ops = append(ops, d.links(want, s.have)...)
	write, err := setup.Publish(s.env.RunDir, link)
	if err != nil {
		return nil, err
	}
	ops = append(ops, write...)
	return append(ops, s.peerOps()...), nil
}

// peerOps are the operations on the peers, of every tunnel that is carried or will be when they are done.
func (s *step) peerOps() []plan.Op {
	nodes, broken := s.files.nodes()
	s.leftOut = peersOf(s.want, s.input, s.set, s.all, nodes)
	maps.Copy(s.leftOut, broken)
	d := s.differ()
	d.prune = s.files.whole()
	var ops []plan.Op
	for _, w := range s.want {
		have, answers := s.have.Devices[w.Name]
		if d.kind == kindTUN && !answers && d.carry == nil {
			continue
		}
		if link, ok := s.have.Links[w.Name]; !ok || link.Kind != d.kind {
			have = wireguard{}
		}
		if have.Peers == nil {
			have.Peers = map[publicKey]held{}
			s.have.Devices[w.Name] = have
		}
		ops = append(ops, d.peers(w, have)...)
	}
	return ops
}

func (s *step) differ() differ {
	d := differ{
		conn: s.conn, control: s.control, kind: kindWireGuard, keyFile: s.key.path, input: s.env.RunDir.Backend(backend), now: time.Now(),
	}
	if s.userspace {
		d.kind = kindTUN
		if s.env.Verb() == "watch" {
			d.carry = s.carryOp
		}
	}
	return d
}

// carryOp is named as the program that does the same.
func (s *step) carryOp(w tunnel) plan.Op {
	return plan.Func{Text: "wireguard-go " + w.Name, Run: func(context.Context) error {
		if old := s.carriers[w.Name]; old != nil {
			old.Close()
			delete(s.carriers, w.Name)
		}
		c, err := carry(w.Name, s.stored(w.Name), s.env.Log)
		if err != nil {
			return err
		}
		s.carriers[w.Name] = c
		if err := s.env.Store(w.Name, c.file); err != nil {
			s.env.Log.Warn("the next run of the program will lose packets", "dev", w.Name, "err", err)
		}
		go func() {
			<-c.ended()
			select {
			case s.dead <- "WireGuard ended on " + w.Name:
			default: // a look at everything is due already
			}
		}()
		return nil
	}}
}

// stored is the TUN device as an earlier run of this program left it open, with the packets that wait in it; nil: there is none.
func (s *step) stored(name string) *os.File {
	f := s.env.Stored(name)
	if f == nil {
		return nil
	}
	if is, err := nl.TUNName(f); err != nil || is != name { // it was deleted meanwhile
		f.Close()
		return nil
	}
	return f
}

// deviceKey is the private key that a device of this node has, its file being lost.
func (s *step) deviceKey() secret {
	for _, name := range []string{deviceName, deviceNameV6} {
		if w, ok := s.have.Devices[name]; ok && w.Key != (secret{}) {
			return w.Key
		}
	}
	return secret{}
}

// Down is tool.Step: the devices with our mark, link.json where it is of this backend, and the key where it was asked for.
func (s *step) Down(context.Context) ([]plan.Op, error) {
	have, err := s.observe()
	if err != nil {
		return nil, err
	}
	ops := append(s.differ().links(nil, have), setup.Withdraw(s.env.RunDir, backend)...)
	if s.env.Bool("remove-key") {
		if op := state.RemoveOp(s.key.path); op != nil {
			ops = append(ops, op)
		}
	}
	return ops, nil
}

// watch says which devices the kernel's news is of interest for.
func (s *step) watch(in state.BackendInput, want []tunnel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watched, s.indexes = map[string]bool{in.Interface.Name: true, deviceName: true, deviceNameV6: true}, map[int]bool{}
	for _, w := range want {
		if l, ok := s.have.Links[w.Name]; ok {
			s.indexes[l.Index] = true
		}
	}
}

func (s *step) concerns(e nl.Event) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.What == nl.LinkEvent && (s.watched[e.Link.Name] || s.indexes[e.Link.Index]) || e.What == nl.AddrEvent && s.indexes[e.Addr.Link] {
		return fmt.Sprint(e)
	}
	return ""
}

// serve carries packets over what stands, also where one peer could not be set.
func (s *step) serve() {
	for _, w := range s.want {
		if c := s.carriers[w.Name]; c != nil {
			c.resized(w.MTU)
			c.serve(w.Key.public(), w.Peers)
		}
	}
}

// tidy lets go of devices that are no longer asked for.
func (s *step) tidy() {
	for _, name := range []string{deviceName, deviceNameV6} {
		if slices.ContainsFunc(s.want, func(w tunnel) bool { return w.Name == name }) {
			continue
		}
		if c := s.carriers[name]; c != nil {
			c.Close()
			delete(s.carriers, name)
			keep.Forget(name)
		}
		if f := s.env.Stored(name); f != nil {
			f.Close()
			keep.Forget(name)
		}
	}
}
