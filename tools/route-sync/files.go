package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
)

// files is what this program was told, as far as it could be read.
type files struct {
	run    state.Dir
	lease  state.Lease
	link   state.Link
	synced bool  // a full listing stands behind peers/
	syncer error // why .synced cannot be trusted, nil also when it is just missing
	peers  map[string]*peerFile
	listed stamp // peers/ when every file of it was looked at; zero: look again
}

// peerFile is one file of peers/. A file that broke keeps the peer that was read from it before.
type peerFile struct {
	peer  state.Peer
	known bool  // peer was read at some time
	err   error // what is wrong with the file now
	stamp stamp
}

// stamp tells whether a file was replaced: every writer renames a new one over it.
type stamp struct {
	inode uint64
	size  int64
	time  int64 // ns
}

// tick is more than what the clock of a file system may stand still: of what has only just changed, a further change may not
// be seen by its time.
const tick = time.Second

func stampOf(info fs.FileInfo) stamp {
	s := stamp{size: info.Size(), time: info.ModTime().UnixNano()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode = sys.Ino
	}
	return s
}

// readHead reads lease.json and link.json. Neither is taken over unless both are good and of one
// backend: while it is being changed they differ for a moment.
func (f *files) readHead() error {
	lease, err := state.Load[state.Lease](f.run.Lease())
	if err != nil {
		return missingHint(err, "subnet-lease")
	}
	link, err := state.Load[state.Link](f.run.Link())
	if err != nil {
		return missingHint(err, "the backend's setup program, such as vxlan-setup,")
	}
	if lease.Backend.Type != link.Publish.Type {
		return exit.WithHint(exit.Errorf(exit.TryAgain, "backend of %q is %q, of %q %q", f.run.Lease(), lease.Backend.Type, f.run.Link(), link.Publish.Type),
			"the backend was changed: its setup program writes %q anew", f.run.Link())
	}
	if _, known := kinds[link.Publish.Type]; !known {
		return exit.Errorf(exit.BadConfig, "read %q: key \"publish.type\": route-sync has no routes for backend %q", f.run.Link(), link.Publish.Type)
	}
	for _, family := range state.Families {
		if d := link.Device.Of(family); lease.Subnet.Has(family) && d.Name == "" {
			return &state.Error{Path: f.run.Link(), Key: "device." + string(family), Err: errors.New("missing, but the lease has such a subnet")}
		}
	}
	f.lease, f.link = lease, link
	return nil
}

func missingHint(err error, producer string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return exit.WithHint(err, "%s writes it; --run-dir says where", producer)
	}
	return err
}

// readSynced looks whether peers/ is whole, each time something is to be removed on its word.
func (f *files) readSynced() {
	_, err := state.Load[state.PeersSynced](f.run.PeersSynced())
	f.synced, f.syncer = err == nil, nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.syncer = err
	}
}

// readPeers brings every peer up to date and returns the nodes whose file changed, came or went. A
// file that was not replaced is not read again; where none was, since that changes the directory, they are not even listed.
func (f *files) readPeers() ([]string, error) {
	synced := f.synced
	f.readSynced()
	now := stamp{}
	if info, err := os.Stat(f.run.Peers()); err == nil && time.Since(info.ModTime()) > tick {
		now = stampOf(info)
	}
	if now != (stamp{}) && now == f.listed && f.synced == synced {
		return nil, nil
	}
	f.listed = stamp{}
	entries, err := os.ReadDir(f.run.Peers())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %q: %w", f.run.Peers(), errors.Unwrap(err))
	}
	if f.peers == nil {
		f.peers = make(map[string]*peerFile, len(entries))
	}
	var changed []string
	there := make(map[string]struct{}, len(entries))
	for _, e := range entries {
		node, ok := state.NodeOfPeer(e.Name())
		if !ok {
			continue
		}
		there[node] = struct{}{}
		if info, err := e.Info(); err == nil && f.peers[node] != nil && f.peers[node].stamp == stampOf(info) {
			continue
		}
		if f.readPeer(node) {
			changed = append(changed, node)
		}
	}
	for node := range f.peers {
		if _, ok := there[node]; !ok && f.readPeer(node) {
			changed = append(changed, node)
		}
	}
	if f.errors() == nil {
		f.listed = now // before anything was read: what changed since changes it
	}
	return changed, nil
}

// readPeer reads one peer's file and says whether anything is different now.
func (f *files) readPeer(node string) bool {
	path := f.run.Peer(node)
	was := f.peers[node]
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if was == nil || !f.synced {
			return false // without a full listing an absence says nothing
		}
		delete(f.peers, node)
		return true
	}
	now := &peerFile{}
	if err == nil {
		now.stamp = stampOf(info)
		now.peer, err = state.Load[state.Peer](path)
	}
	if err == nil && now.peer.Node != node {
		err = &state.Error{Path: path, Key: "node", Err: fmt.Errorf("%q in the file of %q", now.peer.Node, node)}
	}
	now.known, now.err = err == nil, err
	if err != nil {
		f.listed = stamp{} // it may be mended in place
	}
	if err != nil && was != nil && was.known {
		now.peer, now.known = was.peer, true
	}
	f.peers[node] = now
	return was == nil || !same(*was, *now)
}

func same(a, b peerFile) bool {
	return a.known == b.known && fmt.Sprint(a.err) == fmt.Sprint(b.err) && a.peer.Subnet == b.peer.Subnet &&
		a.peer.PublicIP == b.peer.PublicIP && a.peer.Backend.Type == b.peer.Backend.Type &&
		string(a.peer.Backend.Data) == string(b.peer.Backend.Data) && string(a.peer.Backend.DataV6) == string(b.peer.Backend.DataV6)
}

// errors lists what is wrong with files of peers/, by name, at most ten.
func (f *files) errors() error {
	var bad []error
	if f.syncer != nil {
		bad = append(bad, f.syncer)
	}
	var nodes []string
	for node, p := range f.peers {
		if p.err != nil {
			nodes = append(nodes, node)
		}
	}
	slices.Sort(nodes)
	for i, node := range nodes {
		if i == 10 {
			bad = append(bad, fmt.Errorf("and %d files more", len(nodes)-i))
			break
		}
		bad = append(bad, f.peers[node].err)
	}
	if len(bad) == 1 {
		return bad[0]
	}
	return errors.Join(bad...)
}
