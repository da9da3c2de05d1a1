package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/tool"
)

// What the supervisor, or systemd, keeps for the next run: packets wait there while no process carries them.
const (
	storedTUN    = "tun"
	storedSocket = "udp"
)

// tunnel is the carrying of packets, which goes on beside whatever the step does.
type tunnel struct {
	env      *tool.Env
	conn     *nl.Conn
	table    *table
	counters counters
	broken   chan string // why packets are not carried any longer
	muted    bool        // that there are no ICMP messages is said
	now      *carrier    // nil: none yet
}

// carrier is what packets are carried between.
type carrier struct {
	wanted
	index   int // of the device
	dev     tun.Device
	socket  *net.UDPConn
	errands *errands
	ended   chan struct{} // closed when both directions have ended
	over    chan struct{} // closed when one has
}

func newTunnel(env *tool.Env, conn *nl.Conn) *tunnel {
	return &tunnel{env: env, conn: conn, table: newTable(), broken: make(chan string, 1)}
}

// plan lists what makes packets be carried as w says; index is the device's, 0 if there is none yet.
func (t *tunnel) plan(w wanted, index int) []plan.Op {
	if c := t.now; c != nil && c.works() && c.index == index && c.Local == w.Local && c.Subnet == w.Subnet {
		return nil
	}
	return []plan.Op{plan.Func{
		Text: fmt.Sprintf("carry packets between %s and UDP %s", deviceName, w.Local),
		Run:  func(context.Context) error { return t.start(w) },
	}}
}

func (c *carrier) works() bool {
	select {
	case <-c.over:
		return false
	default:
		return true
	}
}

// start carries packets as w says, with the device and the socket that are there if they still serve.
func (t *tunnel) start(w wanted) error {
	device, ok, err := t.conn.Link(deviceName)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("device %q is gone", deviceName)
	}
	c := &carrier{wanted: w, index: device.Index, ended: make(chan struct{}), over: make(chan struct{})}
	if before := t.now; before != nil {
		before.stop()
		t.now = nil
		c.dev, c.socket = before.dev, before.socket
	}
	if err := t.open(c); err != nil {
		c.close()
		return err
	}
	t.now = c
	return t.run(c)
}

// open gets the device and the socket: those of before, those of an earlier run, or new ones.
func (t *tunnel) open(c *carrier) error {
	if err := t.openDevice(c); err != nil {
		return err
	}
	if err := t.openSocket(c); err != nil {
		return err
	}
	for name, conn := range map[string]syscall.Conn{storedTUN: c.dev.File(), storedSocket: c.socket} {
		if err := t.env.Store(name, conn); err != nil {
			t.env.Log.Warn("packets will be lost at the next restart", "err", err)
		}
	}
	var err error
	if c.errands, err = newErrands(); err != nil && !t.muted {
		t.muted = true
		t.env.Log.Warn("senders are not told what cannot be carried", "err", err, "hint", "CAP_NET_RAW is needed")
	}
	never := time.Time{}
	return errors.Join(c.dev.File().SetDeadline(never), c.socket.SetDeadline(never))
}

func (t *tunnel) openDevice(c *carrier) error {
	if c.dev != nil && serves(c.dev.File()) {
		return nil
	}
	if c.dev != nil { // deleted meanwhile
		_ = c.dev.Close()
		c.dev = nil
	}
	file := t.env.Stored(storedTUN)
	if file != nil && !serves(file) {
		file.Close()
		file = nil
	}
	if file == nil {
		var err error
		if file, err = nl.OpenTUN(deviceName); err != nil {
			return err
		}
	}
	defer file.Close() // dev has a copy
	fd := -1
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	failed := raw.Control(func(f uintptr) { fd, err = unix.FcntlInt(f, unix.F_DUPFD_CLOEXEC, 0) })
	if err := errors.Join(failed, err); err != nil {
		return fmt.Errorf("copy descriptor of %s: %w", deviceName, err)
	}
	if c.dev, _, err = tun.CreateUnmonitoredTUNFromFD(fd); err != nil { // it has made a file of fd, which closes it
		return fmt.Errorf("use device %q: %w", deviceName, err)
	}
	return nil
}

// serves says whether a file is still the device's: it is not, once that was deleted.
func serves(f *os.File) bool {
	name, err := nl.TUNName(f)
	return err == nil && name == deviceName
}

func (t *tunnel) openSocket(c *carrier) error {
	if c.socket != nil && c.socket.LocalAddr().(*net.UDPAddr).AddrPort() == c.Local {
		return nil
	}
	if c.socket != nil {
		_ = c.socket.Close()
	}
	if c.socket = socketOf(t.env.Stored(storedSocket), c.Local); c.socket != nil {
		return nil
	}
	var err error
	c.socket, err = listen(c.Local)
	return err
}

// run starts both directions.
func (t *tunnel) run(c *carrier) error {
	raw, err := c.socket.SyscallConn()
	if err != nil {
		return err
	}
	out := newOutbound(t.table, &t.counters, c.errands, c.Local.Port())
	in := newInbound(t.table, &t.counters, number(c.Subnet.Addr()), c.Subnet.Bits())
	ends := make(chan error, 2)
	go func() { ends <- out.carry(c.dev, raw) }()
	go func() { ends <- in.carry(raw, c.dev) }()
	go func() {
		err := <-ends
		close(c.over)
		c.wake()                  // the other one
		err = cmp.Or(err, <-ends) // the first counts
		close(c.ended)
		if errors.Is(err, os.ErrDeadlineExceeded) { // told to
			return
		}
		t.env.Log.Warn("packets are not carried any longer", "dev", deviceName, "err", err)
		time.AfterFunc(100*time.Millisecond, func() { // so that what fails at once is not tried all the time
			select {
			case t.broken <- "carrying ended":
			default:
			}
		})
	}()
	return nil
}

// wake makes both directions end.
func (c *carrier) wake() {
	past := time.Unix(1, 0)
	_ = c.dev.File().SetDeadline(past)
	_ = c.socket.SetDeadline(past)
}

// stop ends both directions. The device's file and the socket stay open, with what waits in them.
func (c *carrier) stop() {
	c.wake()
	<-c.ended
	c.errands.close()
}

// close is for one that was never started.
func (c *carrier) close() {
	if c.dev != nil {
		_ = c.dev.Close()
	}
	if c.socket != nil {
		_ = c.socket.Close()
	}
	c.errands.close()
}

// String is the line of status.
func (t *tunnel) String() string {
	t.table.mu.RLock()
	peers := len(t.table.nodes)
	t.table.mu.RUnlock()
	return fmt.Sprintf("ok: %d peers; %s", peers, &t.counters)
}
