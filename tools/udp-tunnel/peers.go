package main

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/watch"
)

// peerFiles keeps the table as the files in peers/ say. One file that changes costs one read.
type peerFiles struct {
	run   state.Dir
	table *table
	log   *slog.Logger
	seen  map[string]stamp // by node, of the file that was read
}

// stamp tells one content of a path from another, since files are replaced whole.
type stamp struct {
	inode   uint64
	changed syscall.Timespec
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	st := info.Sys().(*syscall.Stat_t)
	return stamp{st.Ino, st.Ctim}
}

func newPeerFiles(run state.Dir, t *table, log *slog.Logger) *peerFiles {
	return &peerFiles{run: run, table: t, log: log, seen: map[string]stamp{}}
}

// take reads what a hint names. Files that are all to be looked at again are read where they are not as they were.
func (p *peerFiles) take(c watch.Change) {
	if !c.All {
		for path := range c.Paths {
			if node, ok := state.NodeOfPeer(path); ok && filepath.Dir(path) == p.run.Peers() {
				p.read(node)
			}
		}
		return
	}
	entries, err := os.ReadDir(p.run.Peers())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.log.Error("cannot list the peers, going on with those that are known", "err", err)
		return
	}
	there := map[string]bool{}
	for _, e := range entries {
		if node, ok := state.NodeOfPeer(e.Name()); ok {
			there[node] = true
			p.read(node)
		}
	}
	for node := range p.seen {
		if !there[node] {
			p.read(node)
		}
	}
}

func (p *peerFiles) read(node string) {
	path := p.run.Peer(node)
	now := stampOf(path)
	if now != (stamp{}) && p.seen[node] == now {
		return
	}
	file, err := state.Load[state.Peer](path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(p.run.PeersSynced()); err != nil {
			return // no full listing stands behind peers/: nobody is taken away
		}
		delete(p.seen, node)
		p.table.set(node, nil)
		return
	case err != nil:
		p.log.Error("cannot use a peer's file, going on with what it said before", "err", err)
	default:
		p.table.set(node, peerOf(file))
	}
	p.seen[node] = now
}

// peerOf is what the tunnel needs of a peer; nil where it has no IPv4.
func peerOf(f state.Peer) *peer {
	if !f.Subnet.Has(state.IPv4) || !f.PublicIP.Has(state.IPv4) {
		return nil
	}
	p := newPeer(f.Node, f.Subnet.IPv4, f.PublicIP.IPv4)
	p.away = f.Backend.Type != backend
	return p
}
