package main

import (
	"cmp"
	"context"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/netconf"
	"github.com/towpath/towpath/lib/state"
)

// etcdStore is an etcd with flannel's keys and values: a key for each subnet, which tells the address of its node and goes with
// etcd's own lease. No key tells a node's name, so a node is named by its address, all but this one, which knows its own. One
// listing is made of it; from Watch on, memory is kept current by one watch, and a new listing follows whenever that breaks.
type etcdStore struct {
	access  etcdAccess
	node    string // this one; empty where a verb is about none
	conf    string // the key of the configuration
	reads   bool   // the configuration, too
	subnets string // what the keys of subnets begin with

	followed
	client   *clientv3.Client    // nil: none yet, or the last one led nowhere
	held     map[string]*held    // by key below subnets
	names    map[string]string   // keys by the node's name
	groups   map[string][]string // keys by the name of the address that they tell, oldest first
	own      string              // this node's key; "": it has none
	me       identity
	expires  expiry
	confText *string // the configuration; nil: there is none
	listed   int64   // revision of the last listing: older news is no news
	revision int64   // memory holds every key that was made until then
	watching bool    // what changes is told; a listing may come late then
}

// held is a key in memory.
type held struct {
	name     string // of the node
	address  string // of the node, as a name; "": none could be read
	modified int64
	created  int64
	lease    int64
	entry    Entry
}

// identity is what this node finds its key by.
type identity struct {
	publicIP state.Pair[netip.Addr]
	before   state.Pair[netip.Addr] // its address when it had subnet
	subnet   state.Pair[netip.Prefix]
}

// expiry is when one of etcd's leases ends, as far as this node knows.
type expiry struct {
	lease int64
	at    time.Time
}

func newEtcdStore(a etcdAccess, node string, reads bool) *etcdStore {
	return &etcdStore{
		access: a, node: node, reads: reads, conf: path.Join(a.prefix, "config"), subnets: path.Join(a.prefix, "subnets") + "/", followed: newFollowed(),
		held: map[string]*held{}, names: map[string]string{}, groups: map[string][]string{},
	}
}

func (s *etcdStore) URL() string { return s.access.url() }

// Identify tells the store by what this node's key is found: its address, or the subnet that it had with the address before. With
// two keys of one address, the one of that subnet counts, else the older.
func (s *etcdStore) Identify(publicIP state.Pair[netip.Addr], lease *state.Lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.me = identity{publicIP: publicIP}
	if lease != nil {
		s.me.subnet, s.me.before = lease.Subnet, lease.PublicIP
	}
	s.settle()
}

// Config is the configuration in the store.
func (s *etcdStore) Config(ctx context.Context) (netconf.Config, []string, error) {
	if err := s.whole(ctx); err != nil {
		return netconf.Config{}, nil, err
	}
	s.mu.Lock()
	text := s.confText
	s.mu.Unlock()
	if text == nil {
		return netconf.Config{}, nil, exit.WithHint(exit.Errorf(exit.TryAgain, "%s: there is no configuration in etcd", s.confName()),
			"write flannel's net-conf.json there: etcdctl put %s \"$(cat net-conf.json)\"; or name a file with --net-conf", s.conf)
	}
	return netconf.Parse(s.confName(), []byte(*text))
}

// confName names the configuration's key in messages.
func (s *etcdStore) confName() string { return s.URL() + "/config" }

func (s *etcdStore) List(ctx context.Context) (Listing, error) {
	if err := s.whole(ctx); err != nil {
		return Listing{}, err
	}
	if err := s.askExpiry(ctx); err != nil {
		return Listing{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listing(), nil
}

// listing is what memory holds. An etcd that was emptied has no configuration either.
func (s *etcdStore) listing() Listing {
	all := Listing{Entries: make(map[string]Entry, len(s.held)), Unused: s.reads && len(s.held) == 0 && s.confText == nil}
	for key, h := range s.held {
		all.Entries[h.name] = s.entryAt(key)
	}
	return all
}

func (s *etcdStore) Get(ctx context.Context, node string) (Entry, error) {
	if err := s.whole(ctx); err != nil {
		return Entry{}, err
	}
	if node == s.node {
		if err := s.askExpiry(ctx); err != nil {
			return Entry{}, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if key, ok := s.names[node]; ok {
		return s.entryAt(key), nil
	}
	return Entry{}, nil
}

// entryAt is the entry of a key that is held, with what is known of its end.
func (s *etcdStore) entryAt(key string) Entry {
	e := s.held[key].entry
	if e.Record != nil && e.Record.Lease != 0 && e.Record.Lease == s.expires.lease {
		r := *e.Record
		r.Expires = s.expires.at
		e.Record = &r
	}
	return e
}

// whole waits for a full listing in memory, or makes it where nobody follows.
func (s *etcdStore) whole(ctx context.Context) error {
	s.mu.Lock()
	following, synced := s.following, s.synced
	s.mu.Unlock()
	if following {
		return s.await(ctx, "list", s.URL())
	}
	if synced {
		return nil
	}
	return s.list(ctx)
}

// put takes a key in, and says whose entries are others now.
func (s *etcdStore) put(kv *mvccpb.KeyValue) (touched []string) {
	key := strings.TrimPrefix(string(kv.Key), s.subnets)
	r, err := recordAt(key, kv.Value, kv.CreateRevision, kv.Lease)
	h := &held{modified: kv.ModRevision, created: kv.CreateRevision, lease: kv.Lease, entry: Entry{Record: &r}}
	h.address = addressName(r.PublicIP)
	old := s.held[key]
	if err != nil {
		h.entry = Entry{Err: exit.Errorf(exit.BadInput, "%s/subnets/%s: %w", s.URL(), key, err), Claims: claimsOf(r.Subnet)}
		if h.address = ""; old != nil {
			h.address = old.address // so that it keeps its name
		}
	}
	if old != nil && old.address == h.address && old.created == h.created {
		h.name, r.Node = old.name, old.name
		renewed := old.lease != 0 && h.lease != 0 && key != s.own // with flannel each renewal is another lease
		if sameEntry(old.entry, h.entry) && (old.lease == h.lease || renewed) {
			h.entry = old.entry // nobody has to look again
		} else {
			touched = append(touched, h.name)
		}
		s.held[key] = h
		return touched
	}
	if old != nil {
		touched = s.drop(key)
	}
	s.held[key] = h
	group := append(s.groups[h.address], key)
	slices.SortFunc(group, func(a, b string) int {
		return cmp.Or(cmp.Compare(s.held[a].created, s.held[b].created), cmp.Compare(a, b))
	})
	s.groups[h.address] = group
	if h.address == "" {
		delete(s.groups, "")
		return append(touched, s.rename(key, keyName(key))...)
	}
	return append(touched, s.regroup(h.address)...)
}

// drop takes a key out, and says whose entries are others now.
func (s *etcdStore) drop(key string) (touched []string) {
	h := s.held[key]
	if h == nil {
		return nil
	}
	delete(s.held, key)
	delete(s.names, h.name)
	touched = append(touched, h.name)
	if key == s.own {
		s.own = ""
	}
	group := slices.DeleteFunc(s.groups[h.address], func(k string) bool { return k == key })
	if s.groups[h.address] = group; len(group) == 0 {
		delete(s.groups, h.address)
	}
	return append(touched, s.regroup(h.address)...)
}

// regroup names the keys of one address: the oldest by it alone, the others by their subnet as well, this node's by its name.
func (s *etcdStore) regroup(address string) (touched []string) {
	touched = s.settle()
	for i, key := range s.groups[address] {
		name := address
		if i > 0 {
			name += "-" + keyName(key)
		}
		touched = append(touched, s.rename(key, name)...)
	}
	return touched
}

func (s *etcdStore) rename(key, name string) (touched []string) {
	if key == s.own {
		name = s.node
	}
	h := s.held[key]
	if h.name == name {
		return nil
	}
	if s.names[h.name] == key {
		delete(s.names, h.name)
	}
	touched = []string{name}
	if h.name != "" {
		touched = append(touched, h.name)
	}
	h.name, s.names[name] = name, key
	if h.entry.Record != nil {
		r := *h.entry.Record
		r.Node = name
		h.entry.Record = &r
	}
	return touched
}

// settle finds this node's key, and says whose entries are others now.
func (s *etcdStore) settle() (touched []string) {
	own := s.ownKey()
	if own == s.own {
		return nil
	}
	var again []string
	for _, key := range []string{s.own, own} {
		if h := s.held[key]; h != nil {
			again = append(again, h.address)
		}
	}
	s.own = own
	for _, address := range again {
		touched = append(touched, s.regroup(address)...)
	}
	return touched
}

func (s *etcdStore) ownKey() string {
	if s.node == "" || s.me.publicIP == (state.Pair[netip.Addr]{}) {
		return ""
	}
	before := keyOf(s.me.subnet)
	group := s.groups[addressName(s.me.publicIP)]
	switch h := s.held[before]; {
	case slices.Contains(group, before) || h != nil && h.address == addressName(s.me.before):
		return before
	case len(group) > 0:
		return group[0]
	}
	return ""
}
