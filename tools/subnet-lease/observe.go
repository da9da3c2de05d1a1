package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/netconf"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

// observed is what a pass decides from.
type observed struct {
	conf   netconf.Config
	link   *state.Link  // nil: not there yet
	lease  *state.Lease // the last one; nil: none
	choice Choice
	uplink Uplink
	all    Listing
}

func (s *step) observe(ctx context.Context) (o observed, err error) {
	if o.conf, err = s.config(ctx); err != nil {
		return o, err
	}
	if o.link, err = s.readLink(); err != nil {
		return o, err
	}
	if o.lease, err = s.readLease(); err != nil {
		return o, err
	}
	var before state.Interface
	if o.lease != nil {
		before = o.lease.Interface
	}
	uplinks, err := nl.ReadUplinks(s.selection.CanReach)
	if err != nil {
		return o, err
	}
	selection, err := s.selectionHere(ctx)
	if err != nil {
		return o, err
	}
	o.choice, err = selection.Choose(uplinks, o.conf.Enabled(), before)
	o.uplink = uplinkOf(uplinks, o.choice.Interface.Name)
	if err := selection.confirm(o.uplink, err); err != nil {
		s.uplink.Store("")
		return o, err
	}
	s.uplink.Store(o.choice.Interface.Name)
	s.explain(o.choice, before)
	if s.etcd != nil {
		s.etcd.Identify(o.choice.PublicIP, o.lease)
	}
	if err := s.list(ctx); err != nil {
		return o, err
	}
	o.all = *s.listing
	return o, nil
}

// list makes the listing of this turn.
func (s *step) list(ctx context.Context) error {
	if s.listing != nil {
		return nil
	}
	all, err := s.store.List(ctx)
	if err == nil {
		s.listing = &all
	}
	return err
}

// selectionHere is the selection with what the Node object has to say about it.
func (s *step) selectionHere(ctx context.Context) (Selection, error) {
	if s.kube == nil {
		return s.selection, nil
	}
	if err := s.list(ctx); err != nil {
		return s.selection, err
	}
	own, err := s.kube.Own()
	if err != nil {
		return s.selection, err
	}
	addrs, err := given(own)
	return s.selection.with(addrs), err
}

// config reads net-conf.json.
func (s *step) config(ctx context.Context) (netconf.Config, error) {
	conf, notices, err := s.loadConf(ctx)
	if err == nil {
		err = supported(s.confName(), conf.Backend.Type)
	}
	if err != nil {
		if s.following && s.lastConf != nil {
			s.tell("net-conf-failed", err.Error(), func() {
				s.env.Log.Error("cannot use the configuration, going on with the last one", "err", err, "hint", hintText(err))
			})
			return *s.lastConf, nil
		}
		return conf, err
	}
	s.tell("net-conf-failed", "", nil)
	s.tell("net-conf", strings.Join(notices, "\n"), func() {
		for _, n := range notices {
			s.env.Log.Warn("odd configuration", "notice", n)
		}
	})
	s.lastConf = &conf
	return conf, nil
}

// setupTools are the back ends that have a setup tool, which is the reader of TYPE.json.
func setupTools() []string {
	var types []string
	for _, f := range state.Registry {
		if _, ok := f.Schema.(state.BackendInput); ok {
			types = append(types, strings.TrimSuffix(f.Name, ".json"))
		}
	}
	return types
}

func supported(path, backend string) error {
	types := setupTools()
	for _, t := range types {
		if t == backend {
			return nil
		}
	}
	return exit.WithHint(
		&state.Error{Path: path, Key: "Backend.Type", Err: fmt.Errorf("back end %q is flannel's alone, towpath has none such", backend), Code: exit.BadConfig},
		"use one of %s%s", strings.Join(types, ", "), instead[backend])
}

// instead is what does the same for a back end that towpath has not.
var instead = map[string]string{
	"ipsec":       ": wireguard encrypts, too",
	"tencent-vpc": ": alloc leaves the routes to the cloud, extension to commands of yours",
}

// readLink reads link.json. Its absence is no news: what was published stays published.
func (s *step) readLink() (*state.Link, error) {
	link, err := state.Load[state.Link](s.env.RunDir.Link())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.tell("link-failed", "", nil)
		s.lastLink = nil
		return nil, nil //nolint:nilnil // not there yet
	case err != nil && s.following:
		s.tell("link-failed", err.Error(), func() {
			s.env.Log.Error("cannot use the link file, going on with the last one", "err", err)
		})
		return s.lastLink, nil
	case err != nil:
		return nil, err
	}
	s.tell("link-failed", "", nil)
	s.lastLink = &link
	return &link, nil
}

// readLease reads the lease.json of an earlier run, which only helps to keep things as they were.
func (s *step) readLease() (*state.Lease, error) {
	lease, err := state.Load[state.Lease](s.env.RunDir.Lease())
	var bad *state.Error
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil //nolint:nilnil // the first run
	case errors.As(err, &bad) && bad.Key == "version": // not ours to replace
		return nil, err
	case err != nil:
		s.env.Log.Warn("cannot use the last lease file, writing it anew", "err", err)
		return nil, nil //nolint:nilnil // as good as none
	}
	return &lease, nil
}

// explain logs which interface was chosen and why, once.
func (s *step) explain(c Choice, before state.Interface) {
	text := fmt.Sprint(c)
	s.tell("interface", text, func() {
		log := s.env.Log.Debug
		if s.following || c.Interface != before {
			log = s.env.Log.Info
		}
		log("interface chosen", "dev", c.Interface.Name, "mtu", c.Interface.MTU, "publicIP", pairText(c.PublicIP), "because", c.Why)
	})
}

// tell calls say when the text on a subject is another than last time, and not empty.
func (s *step) tell(subject, text string, say func()) {
	if s.told[subject] == text {
		return
	}
	s.told[subject] = text
	if text != "" {
		say()
	}
}

// pairText is the values of a pair, separated by a space.
func pairText[T interface {
	comparable
	String() string
}](p state.Pair[T]) string {
	var all []string
	for _, f := range state.Families {
		if p.Has(f) {
			all = append(all, p.Of(f).String())
		}
	}
	return strings.Join(all, " ")
}
