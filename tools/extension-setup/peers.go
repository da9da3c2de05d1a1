package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
)

// peers is what peers/ says, as far as it could be read.
type peers struct {
	run    state.Dir
	synced bool  // a full listing stands behind it
	syncer error // why .synced says nothing
	files  map[string]peerFile
}

// peerFile is one file of peers/. One that broke keeps the peer that was read from it before.
type peerFile struct {
	peer  state.Peer
	known bool
	err   error
}

func newPeers(run state.Dir) *peers { return &peers{run: run, files: map[string]peerFile{}} }

func (p *peers) readSynced() {
	_, p.syncer = state.Load[state.PeersSynced](p.run.PeersSynced())
	p.synced = p.syncer == nil
}

// readAll brings every peer up to date.
func (p *peers) readAll() error {
	p.readSynced()
	entries, err := os.ReadDir(p.run.Peers())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %q: %w", p.run.Peers(), err)
	}
	there := map[string]bool{}
	for _, e := range entries {
		if node, ok := state.NodeOfPeer(e.Name()); ok {
			there[node] = true
			p.read(node)
		}
	}
	for node := range p.files {
		if !there[node] {
			p.read(node)
		}
	}
	return nil
}

// read reads one peer's file.
func (p *peers) read(node string) {
	path := p.run.Peer(node)
	peer, err := state.Load[state.Peer](path)
	if errors.Is(err, fs.ErrNotExist) {
		if p.synced { // without a full listing an absence says nothing
			delete(p.files, node)
		}
		return
	}
	if err == nil && peer.Node != node {
		err = &state.Error{Path: path, Key: "node", Err: fmt.Errorf("%q in the file of %q", peer.Node, node)}
	}
	now := peerFile{peer: peer, known: err == nil, err: err}
	if was := p.files[node]; err != nil && was.known {
		now.peer, now.known = was.peer, true
	}
	p.files[node] = now
}

// nodes are all that something was run for, or is to be.
func (p *peers) nodes(r records) []string {
	all := maps.Clone(p.files)
	for node := range r.peers {
		all[node] = p.files[node]
	}
	return slices.Sorted(maps.Keys(all))
}

// want is what is to have been run for a node; have, where that is to stay as it is.
func (p *peers) want(h head, node string, have *state.ExtensionPeer) *state.ExtensionPeer {
	f, ok := p.files[node]
	switch {
	case !ok && p.synced:
		return nil
	case !ok || !f.known:
		return have
	}
	v := h.decide(f.peer)
	if v.keep {
		return have
	}
	return v.want
}

// leftOut is why nothing is run for a node, or "".
func (p *peers) leftOut(h head, node string) string {
	f, ok := p.files[node]
	switch {
	case !ok:
		return ""
	case f.err != nil:
		return f.err.Error()
	}
	return h.decide(f.peer).why
}

// errors are what is wrong with the files, of ten peers at most.
func (p *peers) errors() []error {
	var errs []error
	if p.syncer != nil {
		errs = append(errs, exit.WithHint(p.syncer, "without it the list of peers may be half a list: nothing is removed"))
	}
	for _, node := range slices.Sorted(maps.Keys(p.files)) {
		if err := p.files[node].err; err != nil && len(errs) < 10 {
			errs = append(errs, err)
		}
	}
	return errs
}
