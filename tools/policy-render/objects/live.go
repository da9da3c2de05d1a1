package objects

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/kube"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// Kube in the place of a path stands for the API server.
const Kube = state.Kube

// kinds are those that are read.
var kinds = []Kind{Namespace, Pod, NetworkPolicy}

// Live is a Source of what the API server has. It keeps no object: what it is told of goes on at once, trimmed to
// what package model uses. A list ends with an Event that names all there is, by which whoever has the objects finds
// what went while nobody watched. An API server that is away, or refuses, takes nothing back.
type Live struct {
	Client  *kube.Client
	Options Options
}

// Watch begins to list and to watch.
func (l *Live) Watch(ctx context.Context) (<-chan []Event, error) {
	f := &feed{news: make(chan news), out: make(chan []Event), host: l.Client.Host(), listed: map[Kind]bool{}, troubles: map[Kind]error{}}
	followKind(ctx, f, l.Client, kube.Namespaces, Namespace, newLiveReader(l.Options).namespace)
	followKind(ctx, f, l.Client, kube.Pods, Pod, newLiveReader(l.Options).pod)
	followKind(ctx, f, l.Client, kube.NetworkPolicies, NetworkPolicy, newLiveReader(l.Options).policy)
	go f.run(ctx)
	return f.out, nil
}

func followKind[T kube.Object](ctx context.Context, f *feed, c *kube.Client, k kube.Kind[T], kind Kind, read func(T) Object) {
	s := &stream[T]{kind: kind, read: read, tell: func(n news) {
		n.kind = kind
		select {
		case f.news <- n:
		case <-ctx.Done():
		}
	}}
	go kube.FollowStream(ctx, c, k, kube.FollowOptions[T]{
		Trouble: func(err error) { s.tell(news{trouble: err}) },
		Heard:   func() { s.tell(news{heard: true}) },
	}, s)
}

// stream makes events of one kind of objects.
type stream[T kube.Object] struct {
	kind Kind
	read func(T) Object
	tell func(news)
}

func (s *stream[T]) Set(in T) {
	o := s.read(in)
	s.tell(news{event: Event{ID: o.ID(), Object: &o}})
}

func (s *stream[T]) Delete(namespace, name string) {
	s.tell(news{event: Event{ID: ID{s.kind, model.Key{Namespace: namespace, Name: name}}, Deleted: true}})
}

func (s *stream[T]) Listed(names map[kube.Name]struct{}) {
	s.tell(news{event: Event{ID: ID{Kind: s.kind}, Listed: func(k model.Key) bool {
		_, ok := names[kube.Name(k)]
		return ok
	}}})
}

// news is what one kind has to tell.
type news struct {
	kind    Kind
	event   Event // with an ID, else one of:
	trouble error
	heard   bool
}

// feed gathers the news of all kinds into batches, for as long as nobody takes them.
type feed struct {
	news     chan news
	out      chan []Event
	host     string
	listed   map[Kind]bool
	synced   bool
	troubles map[Kind]error
	told     string
}

// batchMax bounds what waits to be taken. Who tells more waits too, and in the end the API server does.
const batchMax = 256

func (f *feed) run(ctx context.Context) {
	batch := f.status(nil)
	for {
		in, out := f.news, f.out
		if len(batch) == 0 {
			out = nil
		} else if len(batch) >= batchMax {
			in = nil
		}
		select {
		case n := <-in:
			batch = f.take(batch, n)
		case out <- batch:
			batch = nil
		case <-ctx.Done():
			return
		}
	}
}

func (f *feed) take(batch []Event, n news) []Event {
	switch {
	case n.heard:
		delete(f.troubles, n.kind)
	case n.trouble != nil:
		f.troubles[n.kind] = n.trouble
	default:
		batch = append(batch, n.event)
		if n.event.Listed == nil {
			return batch
		}
		f.listed[n.kind] = true
	}
	if !f.synced && len(f.listed) == len(kinds) {
		f.synced = true
		batch = append(batch, Event{Synced: true})
	}
	return f.status(batch)
}

// status appends what is wrong and what is waited for, where that is another than was told last.
func (f *feed) status(batch []Event) []Event {
	e := Event{Status: true, Faults: f.faults()}
	var waits []string
	for _, k := range kinds {
		if !f.listed[k] {
			waits = append(waits, k.plural())
		}
	}
	if len(waits) > 0 {
		e.Awaits = fmt.Sprintf("%s of %s", strings.Join(waits, ", "), f.host)
	}
	if told := fmt.Sprint(e.Faults, e.Awaits); told != f.told {
		f.told = told
		batch = append(batch, e)
	}
	return batch
}

// faults are the troubles. None ends the program: nothing that a person changes on the API server is an input that
// somebody would start it again for.
func (f *feed) faults() []error {
	var out []error
	for _, k := range kinds {
		err := f.troubles[k]
		if err == nil {
			continue
		}
		last := &exit.Error{Code: exit.TryAgain, Err: err}
		if !slices.ContainsFunc(out, func(e error) bool { return e.Error() == last.Error() }) {
			out = append(out, last)
		}
	}
	return out
}

// ReadLive reads all objects of the API server once.
func ReadLive(ctx context.Context, c *kube.Client, o Options) ([]Object, error) {
	r := newLiveReader(o)
	namespaces, err := readAll(ctx, c, kube.Namespaces, r.namespace)
	if err != nil {
		return nil, err
	}
	pods, err := readAll(ctx, c, kube.Pods, r.pod)
	if err != nil {
		return nil, err
	}
	policies, err := readAll(ctx, c, kube.NetworkPolicies, r.policy)
	return slices.Concat(namespaces, pods, policies), err
}
