package main

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/towpath/towpath/lib/state"
)

// files is what is known of peers/. A file that broke keeps the peer that was read from it before.
type files struct {
	run    state.Dir
	synced bool // a full listing stands behind the directory
	peers  map[string]*peerFile
}

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

func newFiles(run state.Dir) *files { return &files{run: run, peers: map[string]*peerFile{}} }

// readAll reads what changed in the directory.
func (f *files) readAll() error {
	_, err := state.Load[state.PeersSynced](f.run.PeersSynced())
	f.synced = err == nil
	entries, err := os.ReadDir(f.run.Peers())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	there := make(map[string]bool, len(entries))
	for _, e := range entries {
		if node, ok := state.NodeOfPeer(e.Name()); ok {
			there[node] = true
			f.read(node)
		}
	}
	for node := range f.peers {
		if !there[node] {
			delete(f.peers, node)
		}
	}
	return nil
}

// read reads one node's file, if it is another one than before.
func (f *files) read(node string) {
	path := f.run.Peer(node)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		delete(f.peers, node)
		return
	}
	have := f.peers[node]
	if have == nil {
		have = &peerFile{}
		f.peers[node] = have
	}
	var now stamp
	if err == nil {
		now = stamp{size: info.Size(), time: info.ModTime().UnixNano()}
		if sys, ok := info.Sys().(*syscall.Stat_t); ok {
			now.inode = sys.Ino
		}
		if now == have.stamp && have.err == nil {
			return
		}
	}
	peer, err := state.Load[state.Peer](path)
	have.stamp, have.err = now, err
	if err == nil {
		have.peer, have.known = peer, true
	}
}

// nodes are the peers as they are known, and why files cannot be read, by node.
func (f *files) nodes() (known map[string]state.Peer, broken map[string]string) {
	known, broken = make(map[string]state.Peer, len(f.peers)), map[string]string{}
	for node, p := range f.peers {
		if p.known {
			known[node] = p.peer
		}
		if p.err != nil {
			broken[node] = p.err.Error()
		}
	}
	return known, broken
}

// whole says that what is in no file is nobody's: only then are peers removed.
func (f *files) whole() bool {
	for _, p := range f.peers {
		if !p.known {
			return false
		}
	}
	return f.synced
}
