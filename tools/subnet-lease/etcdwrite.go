package main

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/keep"
	"github.com/towpath/towpath/lib/state"
)

// raceWait is how long a node tries to come before the others who want a subnet too.
const raceWait = time.Minute

// errRaced says that somebody came between a look and the change.
var errRaced = errors.New("somebody else changed it meanwhile")

// change makes a change of a node's record, unless etcd is known to be away or the last one just failed.
func (s *etcdStore) change(f func() (Record, error)) (Record, error) {
	s.mu.Lock()
	away := s.trouble
	s.mu.Unlock()
	if away != nil {
		return Record{}, away
	}
	if err := s.tooEarly(); err != nil {
		return Record{}, err
	}
	r, err := f()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate.note(err, time.Now())
	return r, err
}

// Acquire makes the node's key in one transaction, which fails where any key below subnets/ was made since the listing that
// pick decided from, so that neither the same subnet nor one of another length that overlaps it is given twice.
func (s *etcdStore) Acquire(ctx context.Context, node string, pick Pick) (Record, error) {
	return s.change(func() (r Record, err error) {
		ctx, cancel := context.WithTimeout(ctx, raceWait)
		defer cancel()
		var fresh lease
		defer func() { s.revoke(ctx, fresh.unused()) }()
		if err := s.whole(ctx); err != nil {
			return r, err
		}
		for delay := (keep.Backoff{}); ; {
			r, err = s.tryAcquire(ctx, node, pick, &fresh)
			if !errors.Is(err, errRaced) {
				return r, err
			}
			select {
			case <-ctx.Done():
				return r, exit.Errorf(exit.TryAgain, "acquire a subnet in %s: others came first for %s", s.URL(), raceWait)
			case <-time.After(delay.Next()):
			}
			if err := s.list(ctx); err != nil {
				return r, err
			}
		}
	})
}

func (s *etcdStore) tryAcquire(ctx context.Context, node string, pick Pick, fresh *lease) (Record, error) {
	s.mu.Lock()
	all, revision, old := s.listing(), s.revision, s.names[node]
	var was held
	if h := s.held[old]; h != nil {
		was = *h
	}
	s.mu.Unlock()
	r, err := pick(all)
	if err != nil {
		return r, err
	}
	if r.PublicIP == (state.Pair[netip.Addr]{}) {
		var ok bool
		if r.PublicIP, ok = addressOfName(node); !ok {
			return r, exit.WithHint(exit.Errorf(exit.Usage, "node %q is no address", node), "in etcd nodes have no other name than their address: --node 192.168.0.12")
		}
	}
	r.Lease = 0
	if !r.Expires.IsZero() {
		if r.Lease, r.Expires, err = fresh.of(ctx, s, was, r.Expires); err != nil {
			return r, err
		}
	}
	value, err := valueOf(r)
	if err != nil {
		return r, err
	}
	key := keyOf(r.Subnet)
	conditions := []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(s.subnets), "<", revision+1).WithPrefix()}
	ops := []clientv3.Op{clientv3.OpPut(s.subnets+key, value, clientv3.WithLease(clientv3.LeaseID(r.Lease)))}
	if old != "" {
		conditions = append(conditions, s.is(old, was.created))
	}
	if old != key {
		conditions = append(conditions, s.is(key, 0))
		if old != "" {
			ops = append(ops, clientv3.OpDelete(s.subnets+old))
		}
	}
	r, err = s.commit(ctx, "acquire a subnet in", key, r, value, conditions, ops)
	if err == nil && fresh.id == r.Lease {
		fresh.used = true
	}
	return r, err
}

// is is the condition that a key is the one that was made at a revision; 0: there is none.
func (s *etcdStore) is(key string, created int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(s.subnets+key), "=", created)
}

// commit makes a transaction that puts a record, and takes in what it made of it. The watch is behind that.
func (s *etcdStore) commit(ctx context.Context, what, key string, r Record, value string, conditions []clientv3.Cmp, ops []clientv3.Op) (Record, error) {
	var answer *clientv3.TxnResponse
	err := s.ask(ctx, what, func(ctx context.Context, c *clientv3.Client) (err error) {
		answer, err = c.Txn(ctx).If(conditions...).Then(append(ops, clientv3.OpGet(s.subnets+key))...).Commit()
		if errors.Is(rpctypes.Error(err), rpctypes.ErrLeaseNotFound) {
			return nil // it ended this very moment, and the key with it
		}
		return err
	})
	if err != nil {
		return r, err
	}
	if answer == nil || !answer.Succeeded {
		return r, errRaced
	}
	kv := answer.Responses[len(ops)].GetResponseRange().Kvs[0]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.me.subnet, s.me.before = r.Subnet, r.PublicIP
	s.expires = expiry{r.Lease, r.Expires}
	if kv.ModRevision <= s.revision { // the watch was faster, and may know of what came after
		r.Created, r.Lease = kv.CreateRevision, kv.Lease
		return r, nil
	}
	for _, op := range ops {
		if op.IsDelete() {
			s.drop(string(op.KeyBytes())[len(s.subnets):])
		}
	}
	s.put(&mvccpb.KeyValue{Key: []byte(s.subnets + key), Value: []byte(value), CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision, Lease: kv.Lease})
	e := s.entryAt(key)
	if e.Record == nil {
		return r, e.Err
	}
	return *e.Record, nil
}

// Publish changes the value and leaves the lease.
func (s *etcdStore) Publish(ctx context.Context, node string, publicIP state.Pair[netip.Addr], backend state.Published) (Record, error) {
	return s.change(func() (Record, error) {
		key, h, err := s.mine(ctx, node)
		if err != nil {
			return Record{}, err
		}
		r := *s.entryOf(key).Record
		if r.PublicIP, r.Backend = publicIP, canonical(backend); publicIP == (state.Pair[netip.Addr]{}) {
			r.PublicIP = h.entry.Record.PublicIP // a reservation keeps the address, which is all that tells its node
		}
		value, err := valueOf(r)
		if err != nil {
			return r, err
		}
		return s.again(ctx, node, key, r, value, h, clientv3.OpPut(s.subnets+key, value, clientv3.WithIgnoreLease()))
	})
}

// Renew keeps the lease alive, or gives the key another one where that is too short, as when somebody else made it.
func (s *etcdStore) Renew(ctx context.Context, node string, expires time.Time) (Record, error) {
	return s.change(func() (Record, error) {
		key, h, err := s.mine(ctx, node)
		if err != nil {
			return Record{}, err
		}
		r := *h.entry.Record
		if r.Reserved() {
			return r, nil
		}
		left, err := s.keepAlive(ctx, h.lease)
		if err != nil {
			return r, err
		}
		if at := stamp(time.Now().Add(left)); expires.Sub(at) < time.Until(expires)/20 {
			s.mu.Lock()
			s.expires = expiry{h.lease, at}
			s.mu.Unlock()
			r.Expires = at
			return r, nil
		}
		var fresh lease
		defer func() { s.revoke(ctx, fresh.unused()) }()
		if r.Lease, r.Expires, err = fresh.of(ctx, s, held{}, expires); err != nil {
			return r, err
		}
		value, err := valueOf(r)
		if err != nil {
			return r, err
		}
		r, err = s.again(ctx, node, key, r, value, h, clientv3.OpPut(s.subnets+key, value, clientv3.WithLease(clientv3.LeaseID(r.Lease))))
		if fresh.used = err == nil; fresh.used {
			s.revokeIdle(ctx, h.lease)
		}
		return r, err
	})
}

// mine is the key of a node's record, which has to be there.
func (s *etcdStore) mine(ctx context.Context, node string) (string, held, error) {
	if err := s.whole(ctx); err != nil {
		return "", held{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key, ok := s.names[node]
	if !ok {
		return "", held{}, errNoLease(node)
	}
	h := *s.held[key]
	return key, h, h.entry.Err
}

func (s *etcdStore) entryOf(key string) Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entryAt(key)
}

// again puts a key that is there once more. If it is not the same any longer, everything is looked at again.
func (s *etcdStore) again(ctx context.Context, node, key string, r Record, value string, h held, put clientv3.Op) (Record, error) {
	r, err := s.commit(ctx, "change the record in", key, r, value, []clientv3.Cmp{s.is(key, h.created)}, []clientv3.Op{put})
	if errors.Is(err, errRaced) {
		if err := s.list(ctx); err != nil {
			return r, err
		}
		return r, errNoLease(node)
	}
	return r, err
}

// Release deletes the node's key, and its lease if nothing else hangs on it.
func (s *etcdStore) Release(ctx context.Context, node string) error {
	if err := s.whole(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	key, ok := s.names[node]
	var h held
	if ok {
		h = *s.held[key]
	}
	s.mu.Unlock()
	if !ok {
		return nil
	}
	err := s.ask(ctx, "release a subnet of", func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.Txn(ctx).If(s.is(key, h.created)).Then(clientv3.OpDelete(s.subnets + key)).Commit()
		return err
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.drop(key)
	s.mu.Unlock()
	s.revokeIdle(ctx, h.lease)
	return nil
}

// lease is one of etcd's that is made when it is needed.
type lease struct {
	id   int64
	at   time.Time
	used bool
}

// of is the lease for a key: the one that it has, else a new one that ends at expires.
func (l *lease) of(ctx context.Context, s *etcdStore, was held, expires time.Time) (id int64, at time.Time, err error) {
	if was.lease != 0 {
		left, err := s.keepAlive(ctx, was.lease)
		if at := stamp(time.Now().Add(left)); err != nil || left > 0 {
			return was.lease, at, err
		}
	}
	if l.id == 0 {
		seconds := int64((time.Until(expires) + time.Second - 1) / time.Second)
		err := s.ask(ctx, "make a lease in", func(ctx context.Context, c *clientv3.Client) error {
			granted, err := c.Grant(ctx, max(seconds, 1))
			if err == nil {
				l.id, l.at = int64(granted.ID), stamp(time.Now().Add(time.Duration(granted.TTL)*time.Second))
			}
			return err
		})
		if err != nil {
			return 0, at, err
		}
	}
	return l.id, l.at, nil
}

// unused is the lease if it was made for nothing; 0: it was not.
func (l *lease) unused() int64 {
	if l.used {
		return 0
	}
	return l.id
}

// keepAlive puts the end of a lease off, by what it was made for. 0: there is no such lease any longer. clientv3's own would try
// again without a pause.
func (s *etcdStore) keepAlive(ctx context.Context, id int64) (left time.Duration, err error) {
	err = s.ask(ctx, "renew the lease of", func(ctx context.Context, c *clientv3.Client) error {
		stream, err := pb.NewLeaseClient(c.ActiveConnection()).LeaseKeepAlive(clientv3.WithRequireLeader(ctx))
		if err != nil {
			return err
		}
		err = stream.Send(&pb.LeaseKeepAliveRequest{ID: id})
		if err != nil && !errors.Is(err, io.EOF) { // then the answer tells why
			return err
		}
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		left = time.Duration(answer.TTL) * time.Second
		return stream.CloseSend()
	})
	return left, err
}

// revoke ends a lease that was made for nothing. It would end by itself.
func (s *etcdStore) revoke(ctx context.Context, id int64) {
	if id == 0 {
		return
	}
	_ = s.ask(ctx, "end a lease of", func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.Revoke(ctx, clientv3.LeaseID(id))
		return err
	})
}

// revokeIdle ends a lease that no key hangs on any longer.
func (s *etcdStore) revokeIdle(ctx context.Context, id int64) {
	if id == 0 {
		return
	}
	_ = s.ask(ctx, "look at a lease of", func(ctx context.Context, c *clientv3.Client) error {
		l, err := c.TimeToLive(ctx, clientv3.LeaseID(id), clientv3.WithAttachedKeys())
		if err != nil || l.TTL < 0 || len(l.Keys) > 0 {
			return err
		}
		_, err = c.Revoke(ctx, clientv3.LeaseID(id))
		return err
	})
}
