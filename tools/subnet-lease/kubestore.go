package main

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/kube"
	"github.com/towpath/towpath/lib/state"
)

// kubeStore is the Kubernetes API: a node's podCIDRs are its lease, and its annotations, which are flannel's to the byte, are
// what it publishes. Until Watch is called every List asks the API server; from then on memory is kept current by one
// watch of all nodes, and nothing else is asked for.
type kubeStore struct {
	client *kube.Client
	prefix string
	node   string // this one; empty where a verb is about none

	followed
	entries map[string]Entry
	own     *kube.Node // nil: not there
	floor   uint64     // revision of own as we changed it last: older news of it is no news
	ends    int        // how often the watch has told that the own object is gone
}

func newKubeStore(client *kube.Client, prefix, node string) *kubeStore {
	return &kubeStore{client: client, prefix: prefix, node: node, entries: map[string]Entry{}, followed: newFollowed()}
}

func (s *kubeStore) URL() string { return state.Kube }

func (s *kubeStore) List(ctx context.Context) (Listing, error) {
	s.mu.Lock()
	following := s.following
	s.mu.Unlock()
	if !following {
		all, err := kube.ListNodes(ctx, s.client, s.prefix)
		if err != nil {
			return Listing{}, err
		}
		names := make(map[kube.Name]struct{}, len(all))
		for _, n := range all {
			s.Set(n)
			names[kube.Name{Name: n.Name}] = struct{}{}
		}
		s.Listed(names)
	}
	if err := s.await(ctx, "list nodes", s.client.Host()); err != nil {
		return Listing{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return Listing{Entries: maps.Clone(s.entries)}, nil
}

func (s *kubeStore) Get(ctx context.Context, node string) (Entry, error) {
	s.mu.Lock()
	synced, e := s.synced, s.entries[node]
	s.mu.Unlock()
	if synced {
		return e, nil
	}
	n, err := kube.GetNode(ctx, s.client, s.prefix, node)
	if kube.NotFound(err) {
		return Entry{}, nil
	}
	if err != nil {
		return Entry{}, err
	}
	s.Set(n)
	return entryOf(n), nil
}

// Own is this node's object, once a listing or Get has been made.
func (s *kubeStore) Own() (kube.Node, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.own == nil {
		return kube.Node{}, exit.WithHint(exit.Errorf(exit.TryAgain, "node %q is not in the cluster", s.node),
			"the kubelet registers it; give --node (TOWPATH_NODE) the name of its Node object")
	}
	return *s.own, nil
}

func (s *kubeStore) Acquire(context.Context, string, Pick) (Record, error) {
	return Record{}, exit.WithHint(exit.Errorf(exit.BadConfig, "--store kube: subnets are not given out here"),
		"the controller manager assigns a Node's spec.podCIDRs, once and for good; delete the Node object and let the kubelet register it again to have others")
}

// Renew does nothing: a podCIDR never expires.
func (s *kubeStore) Renew(ctx context.Context, node string, _ time.Time) (Record, error) {
	e, err := s.Get(ctx, node)
	if err != nil || e.Record == nil {
		return Record{}, errors.Join(err, e.Err)
	}
	return *e.Record, nil
}

func (s *kubeStore) Publish(ctx context.Context, node string, publicIP state.Pair[netip.Addr], backend state.Published) (Record, error) {
	own, err := s.Own()
	if err != nil {
		return Record{}, err
	}
	values := map[string]*string{}
	for key, want := range annotationsOf(publicIP, backend) {
		if have, ok := own.Annotations[key]; !ok || have != want {
			values[key] = &want
		}
	}
	if len(values) > 0 {
		own, err = s.write(func() (kube.Node, error) { return kube.Annotate(ctx, s.client, s.prefix, node, values) })
		if err != nil {
			return Record{}, err
		}
	}
	e := entryOf(own)
	if e.Record == nil {
		return Record{}, e.Err
	}
	return *e.Record, nil
}

// write makes a request that changes this node's object, and takes in what it made of it. The watch is behind that, and what
// it tells of the time before is left out. Where the watch told of the object's end, or of a later change, while the answer was under
// way, the answer is of the time before that.
func (s *kubeStore) write(request func() (kube.Node, error)) (kube.Node, error) {
	if err := s.tooEarly(); err != nil {
		return kube.Node{}, err
	}
	s.mu.Lock()
	ends := s.ends
	s.mu.Unlock()
	own, err := request()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate.note(err, time.Now())
	overtaken := ends != s.ends || s.own != nil && s.own.Revision > own.Revision
	if err == nil && !overtaken {
		s.floor, s.own = own.Revision, &own
		s.entries[own.Name] = entryOf(own)
	}
	return own, err
}

// Release removes what a node publishes; what people set stays.
func (s *kubeStore) Release(ctx context.Context, node string) error {
	n, err := kube.GetNode(ctx, s.client, s.prefix, node)
	if err != nil {
		return err
	}
	values := map[string]*string{}
	for _, key := range published {
		if _, ok := n.Annotations[key]; ok {
			values[key] = nil
		}
	}
	if len(values) == 0 {
		return nil
	}
	_, err = kube.Annotate(ctx, s.client, s.prefix, node, values)
	return err
}

// Watch begins to follow the nodes.
func (s *kubeStore) Watch(ctx context.Context) (<-chan Hint, error) {
	s.mu.Lock()
	s.following = true
	s.mu.Unlock()
	go kube.FollowNodes(ctx, s.client, s.prefix, s, s.troubled, s.heard)
	return s.hints.serve(ctx), nil
}

// Set takes a node in, as the watch tells it. What says the same as before, as a kubelet's report of its state does, is no news.
func (s *kubeStore) Set(n kube.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.Name == s.node {
		if n.Revision != 0 && n.Revision < s.floor {
			return
		}
		same := s.own != nil && s.own.Created.Equal(n.Created) && s.own.Unavailable == n.Unavailable &&
			slices.Equal(s.own.PodCIDRs, n.PodCIDRs) && maps.Equal(s.own.Annotations, n.Annotations)
		s.own = &n // its revision is news in any case
		if same {
			return
		}
	}
	e := entryOf(n)
	if old, ok := s.entries[n.Name]; ok && n.Name != s.node && sameEntry(old, e) {
		return
	}
	if e.Record != nil {
		e.Record.Backend.Type = intern(e.Record.Backend.Type)
	}
	s.entries[n.Name] = e
	if s.synced {
		s.hints.put(Hint{Nodes: []string{n.Name}})
	}
}

func sameEntry(a, b Entry) bool {
	if a.Err != nil || b.Err != nil {
		return a.Err != nil && b.Err != nil && a.Err.Error() == b.Err.Error()
	}
	return a.Record != nil && b.Record != nil && a.Record.equal(b.Record)
}

// intern keeps one copy of a word that thousands of records have.
func intern(word string) string {
	for _, known := range []string{"vxlan", "host-gw", "udp", "wireguard", "ipip"} {
		if word == known {
			return known
		}
	}
	return word
}

// Delete takes a node out.
func (s *kubeStore) Delete(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(name)
	if s.synced {
		s.hints.put(Hint{Nodes: []string{name}})
	}
}

func (s *kubeStore) forget(name string) {
	delete(s.entries, name)
	if name == s.node {
		s.own, s.floor = nil, 0
		s.ends++
	}
}

// Listed takes out what a full listing does not name.
func (s *kubeStore) Listed(names map[kube.Name]struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.entries {
		if _, ok := names[kube.Name{Name: name}]; !ok {
			s.forget(name)
		}
	}
	s.synced = true
	s.floor = 0 // after a restored etcd, revisions may be lower
	s.answered()
	s.hints.put(Hint{All: true})
}
