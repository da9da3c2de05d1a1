package setup

import (
	"context"
	"encoding/json"
	"errors"
	"sync"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
)

// Fit refuses an interface that is there and up and will not do all the same.
type Fit func(in state.BackendInput, addrs []nl.Addr) error

// Uplink is the step, a tool.Step and a tool.Watched, of a back end that has no device of its own: the node's interface leads to
// the others. It sees that the interface is fit, and names it.
type Uplink struct {
	run     state.Dir
	backend string
	fit     Fit
	conn    *nl.Conn

	mu    sync.Mutex
	name  string // of the interface
	index int
}

// OpenUplink prepares the step of a back end. fit may be nil.
func OpenUplink(run state.Dir, backend string, fit Fit) (*Uplink, error) {
	conn, err := nl.Open()
	if err != nil {
		return nil, err
	}
	return &Uplink{run: run, backend: backend, fit: fit, conn: conn}, nil
}

// Close is io.Closer.
func (s *Uplink) Close() error { return s.conn.Close() }

// Look reads the input, looks at the interface and says what link.json has to hold. An input that is not there wraps
// fs.ErrNotExist.
func (s *Uplink) Look() (state.BackendInput, state.Link, error) {
	path := s.run.Backend(s.backend)
	in, err := Input(s.run, s.backend)
	if err != nil {
		return in, state.Link{}, err
	}
	dev, ok, err := s.conn.Link(in.Interface.Name)
	if err != nil {
		return in, state.Link{}, err
	}
	var addrs []nl.Addr
	if ok {
		if addrs, err = s.conn.Addrs(dev.Index); err != nil {
			return in, state.Link{}, err
		}
	}
	s.mu.Lock()
	s.name, s.index = in.Interface.Name, dev.Index
	s.mu.Unlock()
	link, err := LinkOf(path, s.backend, in, dev, ok)
	if err == nil && s.fit != nil {
		err = s.fit(in, addrs)
	}
	return in, link, err
}

// LinkOf is the link.json of a backend whose device is the uplink. exists is false where dev is none.
func LinkOf(path, backend string, in state.BackendInput, dev nl.Link, exists bool) (state.Link, error) {
	name := in.Interface.Name
	switch {
	case in.Backend.Type != backend:
		return state.Link{}, &state.Error{Path: path, Key: "backend.type", Err: errors.New("not " + backend)}
	case !exists:
		return state.Link{}, noUplink(name)
	case !dev.Up:
		return state.Link{}, exit.WithHint(exit.Errorf(exit.TryAgain, "interface %q: it is down", name), "ip link set dev %s up", name)
	}
	link := state.Link{Version: state.Version, Uplink: name, MTU: dev.MTU, Publish: state.Published{Type: backend}}
	for _, f := range state.Families {
		if !in.Subnet.Has(f) {
			continue
		}
		if !in.PublicIP.Has(f) {
			return state.Link{}, &state.Error{Path: path, Key: "publicIP." + string(f), Err: errors.New("missing, but the subnet has such a part")}
		}
		link.Device.Set(f, state.Device{Name: name, MTU: dev.MTU})
		if f == state.IPv6 {
			link.Publish.DataV6 = json.RawMessage("null")
		} else {
			link.Publish.Data = json.RawMessage("null")
		}
	}
	return link, nil
}

// Plan is tool.Step.
func (s *Uplink) Plan(context.Context) ([]plan.Op, error) {
	_, link, err := s.Look()
	if err != nil {
		return nil, err
	}
	return Publish(s.run, link)
}

// Down is tool.Step: only link.json is ours, and only while it is of this backend.
func (s *Uplink) Down(context.Context) ([]plan.Op, error) {
	return Withdraw(s.run, s.backend), nil
}

// Inputs is tool.Watched.
func (s *Uplink) Inputs() []string { return []string{s.run.Backend(s.backend), s.run.Link()} }

// Events is tool.Watched: what happens to the interface.
func (s *Uplink) Events(ctx context.Context) (<-chan string, error) {
	return nl.Hints(ctx, nl.WatchLinks|nl.WatchAddrs, func(e nl.Event) string {
		s.mu.Lock()
		defer s.mu.Unlock()
		if e.What == nl.LinkEvent && e.Link.Name == s.name || e.What == nl.AddrEvent && e.Addr.Link == s.index {
			return e.String()
		}
		return ""
	})
}
