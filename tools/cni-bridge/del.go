package main

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

// del detaches a container. It needs neither subnet.env nor the pod's namespace, may be repeated, and
// undoes what is on record, whatever the configuration says now: a network may have changed from a
// bridge to another plugin, or from flannel to towpath, while the pod ran.
func del(c *call) error {
	if err := delegateDel(c); err != nil {
		return err
	}
	s, err := c.open()
	if err != nil {
		return err
	}
	a, err := s.lookUp(c.holder, unix.LOCK_EX)
	if err != nil {
		return err
	}
	if a != nil {
		defer a.close()
	}
	if a != nil || c.conf.native() {
		if err := c.unplug(); err != nil {
			return err
		}
	}
	if _, err := state.Remove(c.endpointPath()); err != nil {
		return err
	}
	if a != nil { // last: no other pod gets the address while this one can still use it
		if err := a.releaseAll(); err != nil {
			return err
		}
	}
	return forgetFlannel(c)
}

func (c *call) unplug() error {
	socket, err := nl.OpenSocket()
	if err != nil {
		return err
	}
	return errors.Join(unplug(socket, c.holder, c.netns), socket.Close())
}
