package main

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
)

// peerFile is what is known of peers/NODE.json since it was last written or compared: as long as
// neither the record nor the file changes, nothing has to be read.
type peerFile struct {
	record *Record
	stat   fileState
}

// fileState tells one content of a path from another, since files are replaced whole.
type fileState struct {
	inode   uint64
	size    int64
	changed syscall.Timespec
}

func stateOf(path string) (fileState, error) {
	stat, err := os.Lstat(path)
	if err != nil {
		return fileState{}, err
	}
	sys, _ := stat.Sys().(*syscall.Stat_t)
	return fileState{inode: sys.Ino, size: sys.Size, changed: sys.Ctim}, nil
}

// checkStore refuses a store that nobody has used where this node has peers: it is not the one they
// came from. The data plane stays as it is.
func (s *step) checkStore(all Listing) error {
	if !all.Unused {
		return nil
	}
	names, err := peerFiles(s.env.RunDir.Peers())
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, ok := state.NodeOfPeer(name); ok {
			return exit.WithHint(exit.Errorf(exit.Unavailable, "store %s holds nothing, and this node has peers", s.store.URL()),
				"is the store's file system mounted? To begin with a new store, run `subnet-lease down` first")
		}
	}
	return nil
}

// peerFiles lists the files of the peers' directory that subnet-lease makes, and what it left behind
// when it was killed.
func peerFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		name := e.Name()
		if _, ok := state.NodeOfPeer(name); ok || strings.HasPrefix(name, ".") && strings.HasSuffix(name, ".tmp") {
			names = append(names, name)
		}
	}
	return names, nil
}

// leftovers are the temporary files of killed runs in the run directory.
func (s *step) leftovers() []string {
	var all []string
	for _, path := range s.outputs() {
		dir, base := filepath.Split(path)
		found, _ := filepath.Glob(filepath.Join(dir, "."+base+".*.tmp")) // the pattern is sound
		all = append(all, found...)
	}
	return all
}

// outputs are the files about this node that subnet-lease writes.
func (s *step) outputs() []string {
	paths := []string{s.env.RunDir.Lease()}
	for _, backend := range setupTools() {
		paths = append(paths, s.env.RunDir.Backend(backend))
	}
	if s.confMap != nil {
		paths = append(paths, s.env.RunDir.CNIConf())
	}
	return paths
}

// allPeers are the operations that make the peers' directory as the full listing says, its mark last.
func (s *step) allPeers(ctx context.Context, now time.Time) ([]plan.Op, error) {
	dir := s.env.RunDir
	names, err := peerFiles(dir.Peers())
	if err != nil {
		return nil, err
	}
	var ops []plan.Op
	for _, name := range names {
		node, ok := state.NodeOfPeer(name)
		if _, listed := s.peers.entries[node]; ok && listed {
			continue
		}
		if ok && node != s.node {
			// A listing may miss what is renamed meanwhile; only a look by name is sure.
			e, err := s.store.Get(ctx, node)
			if err != nil {
				return nil, err
			}
			if !e.gone() {
				s.peers.set(node, e)
				continue
			}
		}
		delete(s.files, node)
		ops = appendOp(ops, state.RemoveOp(filepath.Join(dir.Peers(), name)))
	}
	nodes := slices.Sorted(maps.Keys(s.peers.entries))
	for _, node := range nodes {
		if ops, err = s.peerOp(ops, node, now); err != nil {
			return nil, err
		}
	}
	mark, err := state.WriteOp(dir.PeersSynced(), state.PeersSynced{Version: state.Version, Store: s.store.URL()})
	return appendOp(ops, mark), err
}

// peerOp appends what makes one peer's file as it has to be.
func (s *step) peerOp(ops []plan.Op, node string, now time.Time) ([]plan.Op, error) {
	d := s.peers.decide(node, now)
	s.tell("peer "+node, d.why, func() { s.env.Log.Warn("odd record in the store", "node", node, "because", d.why) })
	s.compare(node)
	path := s.env.RunDir.Peer(node)
	if d.keep {
		return ops, nil
	}
	record := s.peers.entries[node].Record
	if d.peer == nil {
		delete(s.files, node)
		return appendOp(ops, state.RemoveOp(path)), nil
	}
	known, ok := s.files[node]
	stat, statErr := stateOf(path)
	if ok && statErr == nil && known.record == record && known.stat == stat {
		return ops, nil
	}
	op, err := state.WriteOp(path, d.peer)
	if err != nil {
		return ops, err
	}
	if op == nil {
		s.files[node] = peerFile{record: record, stat: stat}
		return ops, nil
	}
	return append(ops, plan.Func{Text: op.String(), File: path, Run: func(ctx context.Context) error {
		if err := op.Do(ctx); err != nil {
			return err
		}
		stat, err := stateOf(path)
		s.files[node] = peerFile{record: record, stat: stat}
		return err
	}}), nil
}

// removeDirOp removes the peers' directory when it holds nothing but the n files that go before.
func removeDirOp(dir string, n int) plan.Op {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if e.Name() != ".synced" {
			n--
		}
	}
	if n != 0 {
		return nil
	}
	return plan.Func{Text: "rmdir " + dir, Run: func(context.Context) error { return os.Remove(dir) }}
}
