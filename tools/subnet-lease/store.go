package main

import (
	"context"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/kube"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
)

// Store is where all nodes' leases are: files, etcd (a transaction for Acquire, a lease for Renew), or Kubernetes (the node's
// podCIDR and annotations). Every method may be called while other nodes use the store.
type Store interface {
	// URL names the store in messages and files, without credentials.
	URL() string
	// List reads every record.
	List(ctx context.Context) (Listing, error)
	// Get reads one node's record; an Entry with neither Record nor Err says that there is none.
	Get(ctx context.Context, node string) (Entry, error)
	// Acquire makes the record that pick decides on from a listing the node's own, in one step that no
	// other node can come between. Expired records of others that overlap it are removed.
	Acquire(ctx context.Context, node string, pick Pick) (Record, error)
	// Publish changes what the node's record tells the others.
	Publish(ctx context.Context, node string, publicIP state.Pair[netip.Addr], backend state.Published) (Record, error)
	// Renew puts the expiry of the node's record off.
	Renew(ctx context.Context, node string, expires time.Time) (Record, error)
	// Release removes the node's record, whatever is in it. A missing one is no error.
	Release(ctx context.Context, node string) error
	// Watch sends hints which records to read again, until ctx ends.
	Watch(ctx context.Context) (<-chan Hint, error)
}

// Pick decides on a record. It may be called several times, and changes nothing.
type Pick func(all Listing) (Record, error)

// Listing is a full reading of a store.
type Listing struct {
	// Unused: nobody has used the store yet. Where this node has peers, it is rather the wrong place,
	// such as a directory whose file system is not mounted.
	Unused  bool
	Entries map[string]Entry // by node
}

// Entry is a record, or why there is none. The record is shared: whoever changes it makes a copy.
type Entry struct {
	Record *Record
	Err    error          // the record is there and cannot be read
	Claims []netip.Prefix // what an unreadable record seems to hold
}

func (e Entry) gone() bool { return e.Record == nil && e.Err == nil }

// errNoLease says that the node has no record to change: another took it after its expiry, or it was
// released.
func errNoLease(node string) error {
	return exit.WithHint(exit.Errorf(exit.TryAgain, "node %q has no lease in the store", node), "apply acquires one")
}

// openStore opens the store that --store names, for a node or, where node is empty, for none. Nothing is made or changed.
func openStore(env *tool.Env, node string) (Store, error) {
	url := env.String("store")
	scheme, rest, _ := strings.Cut(url, ":")
	hint := "use kube, etcd://HOST:PORT, or file:DIR, a directory that every node can reach"
	switch scheme {
	case "file":
		dir := strings.TrimPrefix(rest, "//")
		if dir == "" {
			return nil, exit.WithHint(exit.Errorf(exit.Usage, "--store %q: a directory is missing", url), "%s", hint)
		}
		dir, err := filepath.Abs(dir)
		if err != nil {
			return nil, err
		}
		return newFileStore(dir), nil
	case state.Kube:
		if url != state.Kube {
			return nil, exit.WithHint(exit.Errorf(exit.Usage, "--store %q: kube has no address", url), "name the API server with --kubeconfig or --kube-api-url")
		}
		prefix, err := prefixOf(env.String("annotation-prefix"))
		if err != nil {
			return nil, err
		}
		client, err := openKube(env)
		if err != nil {
			return nil, err
		}
		return newKubeStore(client, prefix, node), nil
	case state.Etcd, state.Etcds:
		access, err := etcdAccessOf(env)
		if err != nil {
			return nil, err
		}
		return newEtcdStore(access, node, node == "" || netConfOf(env) == state.Etcd), nil
	}
	return nil, exit.WithHint(exit.Errorf(exit.Usage, "--store %q: unknown kind of store", url), "%s", hint)
}

func openKube(env *tool.Env) (*kube.Client, error) {
	return kube.Open(kube.OptionsOf(env, "subnet-lease"))
}

// inEtcd says that --store is an etcd.
func inEtcd(env *tool.Env) bool { return state.InEtcd(env.String("store")) }
