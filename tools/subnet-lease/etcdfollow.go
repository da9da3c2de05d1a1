package main

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/towpath/towpath/lib/exit"
)

// After a failure etcd is asked again after a random part of a delay, which begins with shortDelay, grows by one
// millisecond for each node there is, and doubles to longDelay: when an etcd returns, thousands of nodes want a listing.
const (
	shortDelay = 800 * time.Millisecond
	longDelay  = 30 * time.Second
)

func (s *etcdStore) Watch(ctx context.Context) (<-chan Hint, error) {
	s.mu.Lock()
	s.following = true
	s.mu.Unlock()
	go s.follow(ctx)
	return s.hints.serve(ctx), nil
}

// follow keeps memory current until ctx ends.
func (s *etcdStore) follow(ctx context.Context) {
	defer s.disconnect()
	delay := shortDelay
	for {
		if err := s.list(ctx); err == nil {
			s.heard()
			began := time.Now()
			_ = s.watch(ctx) // its end is no trouble, if a listing follows
			if time.Since(began) > longDelay {
				delay = shortDelay
			}
		} else if ctx.Err() == nil {
			s.disconnect()
			s.troubled(err)
		}
		s.mu.Lock()
		most := delay + time.Duration(len(s.held))*time.Millisecond
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay/4 + rand.N(most)):
		}
		delay = min(2*delay, longDelay)
	}
}

// connected is the client, which is made if there is none.
func (s *etcdStore) connected(ctx context.Context) (*clientv3.Client, error) {
	s.mu.Lock()
	client := s.client
	s.mu.Unlock()
	if client != nil {
		return client, nil
	}
	client, err := s.access.connect(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != nil {
		defer client.Close() //nolint:errcheck // nothing was written
		return s.client, nil
	}
	s.client = client
	return client, nil
}

// disconnect gives a client up: the next one reads certificates and password again.
func (s *etcdStore) disconnect() {
	s.mu.Lock()
	client := s.client
	s.client = nil
	s.mu.Unlock()
	if client != nil {
		client.Close() //nolint:errcheck // nothing to be saved
	}
}

// ask makes one request.
func (s *etcdStore) ask(ctx context.Context, what string, request func(context.Context, *clientv3.Client) error) error {
	client, err := s.connected(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	return s.access.wrap(what, withCause(ctx, func(ctx context.Context) error { return request(ctx, client) }))
}

// list reads everything at one revision. It asks for no more than flannel's rights: the one key, and what begins with subnets/.
func (s *etcdStore) list(ctx context.Context) error {
	ops := []clientv3.Op{clientv3.OpGet(s.subnets, clientv3.WithPrefix())}
	if s.reads {
		ops = append(ops, clientv3.OpGet(s.conf))
	}
	var answer *clientv3.TxnResponse
	err := s.ask(ctx, "list", func(ctx context.Context, c *clientv3.Client) (err error) {
		answer, err = c.Txn(ctx).Then(ops...).Commit()
		return err
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watching && answer.Header.Revision < s.revision {
		return nil // the watch was faster
	}
	first := !s.synced
	// What this node wrote since counts, but in a restored etcd, whose revisions are lower, nothing that was known does.
	newer := func(h *held) bool {
		return h != nil && h.modified > answer.Header.Revision && answer.Header.Revision >= s.revision
	}
	var touched []string
	there := make(map[string]struct{}, len(s.held))
	for _, kv := range answer.Responses[0].GetResponseRange().Kvs {
		key := strings.TrimPrefix(string(kv.Key), s.subnets)
		there[key] = struct{}{}
		if h := s.held[key]; !newer(h) && (h == nil || h.modified != kv.ModRevision || h.created != kv.CreateRevision) {
			touched = append(touched, s.put(kv)...)
		}
	}
	var gone []string
	for key, h := range s.held {
		if _, ok := there[key]; !ok && !newer(h) {
			gone = append(gone, key)
		}
	}
	slices.Sort(gone)
	for _, key := range gone {
		touched = append(touched, s.drop(key)...)
	}
	if s.reads {
		s.configured(answer.Responses[1].GetResponseRange().Kvs)
	}
	s.listed, s.revision = answer.Header.Revision, answer.Header.Revision
	s.synced = true
	s.answered()
	if first || len(touched) > 0 {
		s.hints.put(Hint{All: true})
	}
	return nil
}

// configured takes the configuration in.
func (s *etcdStore) configured(kvs []*mvccpb.KeyValue) {
	old := s.confText
	if s.confText = nil; len(kvs) > 0 {
		text := string(kvs[0].Value)
		s.confText = &text
	}
	if (old == nil) != (s.confText == nil) || old != nil && *old != *s.confText {
		s.hints.put(Hint{All: true})
	}
}

// watch takes in what changes after the listing, until that cannot be told any longer: the stream breaks, etcd has no
// leader, or has compacted what was to come. clientv3's own watch would try again by itself, ten times a second.
func (s *etcdStore) watch(ctx context.Context) error {
	client, err := s.connected(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	stream, err := pb.NewWatchClient(client.ActiveConnection()).Watch(ctx, grpc.MaxCallRecvMsgSize(math.MaxInt32))
	if err != nil {
		return err
	}
	s.mu.Lock()
	from := s.listed + 1
	s.watching = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.watching = false
	}()
	requests := []*pb.WatchCreateRequest{{Key: []byte(s.subnets), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(s.subnets)), StartRevision: from}}
	if s.reads {
		requests = append(requests, &pb.WatchCreateRequest{Key: []byte(s.conf), StartRevision: from})
	}
	for _, r := range requests {
		if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}}); err != nil {
			return err
		}
	}
	for {
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		if answer.Canceled || answer.CompactRevision != 0 {
			return exit.Errorf(exit.Unavailable, "watch %s: %s (compacted at revision %d)", s.URL(), answer.CancelReason, answer.CompactRevision)
		}
		if s.emptied(answer.Events) {
			if err := s.list(ctx); err != nil {
				return err
			}
			continue
		}
		s.told(answer.Events)
	}
}

// emptied says that no key is left after some events, and another node's was there. Whether the configuration went with them, in which
// case the store is not the one that the peers came from, etcd tells in an answer of its own; a listing says all of it at once.
func (s *etcdStore) emptied(events []*mvccpb.Event) bool {
	last := map[string]*mvccpb.Event{}
	for _, e := range events {
		if key, ok := strings.CutPrefix(string(e.Kv.Key), s.subnets); ok {
			last[key] = e
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	left, others := len(s.held), false
	for key, e := range last {
		if e.Type != mvccpb.DELETE {
			return false
		}
		if s.held[key] != nil {
			left--
			others = others || key != s.own
		}
	}
	return left == 0 && others
}

// told takes events in.
func (s *etcdStore) told(events []*mvccpb.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var touched []string
	for _, e := range events {
		gone := e.Type == mvccpb.DELETE
		key, ok := strings.CutPrefix(string(e.Kv.Key), s.subnets)
		if !ok {
			if gone {
				s.configured(nil)
			} else {
				s.configured([]*mvccpb.KeyValue{e.Kv})
			}
			continue
		}
		s.revision = max(s.revision, e.Kv.ModRevision)
		if h := s.held[key]; e.Kv.ModRevision <= s.listed || h != nil && e.Kv.ModRevision <= h.modified {
			continue
		}
		if gone {
			touched = append(touched, s.drop(key)...)
		} else {
			touched = append(touched, s.put(e.Kv)...)
		}
	}
	if len(touched) > 0 {
		s.hints.put(Hint{Nodes: touched})
	}
}

// askExpiry asks when the lease of this node's key ends, once for each lease.
func (s *etcdStore) askExpiry(ctx context.Context) error {
	s.mu.Lock()
	h := s.held[s.own]
	known := h == nil || h.lease == 0 || h.lease == s.expires.lease
	trouble := s.trouble
	s.mu.Unlock()
	if known || trouble != nil { // while etcd is away, what was known counts
		return nil
	}
	at, err := s.ends(ctx, h.lease)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expires = expiry{h.lease, at}
	return nil
}

// ends asks when a lease ends.
func (s *etcdStore) ends(ctx context.Context, lease int64) (at time.Time, err error) {
	err = s.ask(ctx, "ask for the lease of", func(ctx context.Context, c *clientv3.Client) error {
		left, err := c.TimeToLive(ctx, clientv3.LeaseID(lease))
		if err == nil {
			at = stamp(time.Now().Add(time.Duration(max(left.TTL, 0)) * time.Second))
		}
		return err
	})
	return at, err
}

// Expiries asks for the end of every lease in a listing, a few at a time. Only people want to know it of others.
func (s *etcdStore) Expiries(ctx context.Context, all Listing) error {
	const atOnce = 16
	type ended struct {
		node string
		at   time.Time
		err  error
	}
	slots, answers := make(chan struct{}, atOnce), make(chan ended)
	n := 0
	for node, e := range all.Entries {
		if e.Record == nil || e.Record.Lease == 0 {
			continue
		}
		n++
		go func() {
			slots <- struct{}{}
			at, err := s.ends(ctx, e.Record.Lease)
			<-slots
			answers <- ended{node, at, err}
		}()
	}
	var failed error
	for range n {
		a := <-answers
		if failed = errors.Join(failed, a.err); a.err == nil {
			r := *all.Entries[a.node].Record
			r.Expires = a.at
			all.Entries[a.node] = Entry{Record: &r}
		}
	}
	return failed
}
