package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

// gc removes what attachments that the runtime no longer knows have left: devices, endpoint files,
// delegates' work, reservations (also host-local's, and files without content) and index files. What
// the runtime calls valid stays, unless it is of an earlier boot and its namespace is gone. An
// attachment that another call works on is let be.
func gc(c *call) error {
	valid, err := c.valid()
	if err != nil {
		return err
	}
	s, err := c.open()
	if err != nil {
		return err
	}
	err = delegateGC(c, valid)
	if !exists(s.dir) {
		return err
	}
	socket, serr := nl.OpenSocket()
	if serr != nil {
		return errors.Join(err, serr)
	}
	defer socket.Close() //nolint:errcheck // nothing is buffered
	sweep := &sweep{call: c, store: s, socket: socket, valid: valid}
	return errors.Join(err, sweep.attachments(), sweep.ports(), sweep.endpoints(), sweep.empty())
}

// valid reads the list of what to keep. Without the key nothing is removed: a missing input never
// means "delete everything", an empty list does.
func (c *call) valid() (map[holder]bool, error) {
	if c.conf.Valid == nil {
		return nil, types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("network configuration %q: key %q: missing", c.conf.Name, validAttachments), "")
	}
	var list []types.GCAttachment
	if err := json.Unmarshal(c.conf.Valid, &list); err != nil {
		return nil, types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("network configuration %q: key %q: %v", c.conf.Name, validAttachments, err), "")
	}
	valid := map[holder]bool{}
	for _, a := range list {
		valid[holder{a.ContainerID, a.IfName}] = true
		valid[holder{Container: a.ContainerID}] = true // host-local's old format
	}
	return valid, nil
}

type sweep struct {
	*call
	store  *store
	socket *nl.Socket
	valid  map[holder]bool
}

// attachments removes those on record that are not valid.
func (w *sweep) attachments() error {
	if err := w.store.locked(func() error { return nil }); err != nil {
		return err
	}
	all, err := w.store.attachments()
	for _, h := range all {
		err = errors.Join(err, w.attachment(h))
	}
	return err
}

func (w *sweep) attachment(h holder) error {
	a, err := w.store.openEntry(h, os.O_RDWR, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	}
	if err != nil {
		return err
	}
	defer a.close()
	if w.valid[h] {
		var r record
		if err := w.store.locked(func() error { r = a.read(); return nil }); err != nil {
			return err
		}
		if r.BootID == "" || r.BootID == w.store.bootID || r.Netns != "" && exists(r.Netns) {
			return nil
		}
	}
	// The pod's end is found by its endpoint where the host's is not of our making.
	path := state.Dir(w.conf.RunDir).Endpoint(h.Container, h.Interface)
	e, _ := state.Load[state.Endpoint](path)
	if err := unplug(w.socket, h, e.Netns); err != nil {
		return err
	}
	if _, err := state.Remove(path); err != nil {
		return err
	}
	if err := a.releaseAll(); err != nil {
		return err
	}
	return forgetFlannel(&call{holder: h, conf: w.conf})
}

// ports removes host ends of this network that have no record: their index was lost.
func (w *sweep) ports() error {
	br, ok, err := w.socket.Device(w.conf.bridge.Bridge)
	if err != nil || !ok {
		return err
	}
	ports, err := w.socket.Ports(br.Index)
	for _, p := range ports {
		f := strings.Fields(p.Alias)
		if len(f) != 4 || f[0] != nl.Mark || f[1] != w.conf.Name {
			continue
		}
		h := holder{f[2], f[3]}
		if !w.valid[h] && p.Name == vethName(h) && !exists(filepath.Join(w.store.index, h.file())) {
			err = errors.Join(err, w.socket.Do(nl.DeleteLink(p.Name)))
		}
	}
	return err
}

// endpoints removes this network's endpoint files that no attachment stands behind.
func (w *sweep) endpoints() error {
	dir := state.Dir(w.conf.RunDir).Endpoints()
	err := state.Sweep(dir)
	names, lerr := readNames(dir)
	err = errors.Join(err, lerr)
	for _, name := range names {
		path := filepath.Join(dir, name)
		e, lerr := state.Load[state.Endpoint](path)
		if !strings.HasSuffix(name, ".json") || lerr != nil || e.Network != w.conf.Name {
			continue // not ours to judge
		}
		h := holder{e.ContainerID, e.Interface}
		if !w.valid[h] && !exists(filepath.Join(w.store.index, h.file())) {
			_, rerr := state.Remove(path)
			err = errors.Join(err, rerr)
		}
	}
	return err
}

// empty removes address files without content: what is left of a process that died between making
// and filling one.
func (w *sweep) empty() error {
	return w.store.locked(func() error {
		names, err := readNames(w.store.dir)
		for _, name := range names {
			ip, perr := netip.ParseAddr(name)
			if perr != nil {
				continue
			}
			if st, serr := os.Stat(w.store.path(ip)); serr == nil && st.Size() == 0 {
				err = errors.Join(err, os.Remove(w.store.path(ip)))
			}
		}
		return err
	})
}
