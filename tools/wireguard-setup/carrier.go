package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/ipc"
	"golang.zx2c4.com/wireguard/tun"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
)

// carrier is WireGuard in this process, on a TUN device that outlives it.
type carrier struct {
	name     string
	device   *device.Device
	tun      *quiet
	listener net.Listener
	file     *os.File // of the TUN device
	crossed  crossings
	greeted  map[wgtypes.Key]bool
}

// quiet is a TUN device that does not tell whether it is up: WireGuard would forget every session when somebody sets the
// link down, and the link is set up again within the second. Nothing is read from it before the peers are known: what waits
// in it would be thrown away.
type quiet struct {
	tun.Device
	events chan tun.Event
	begin  chan struct{} // closed when reading may begin
	once   struct{ begin, close sync.Once }
	mtu    int
}

func newQuiet(dev tun.Device) *quiet {
	return &quiet{Device: dev, events: make(chan tun.Event, 1), begin: make(chan struct{})}
}

func (q *quiet) Events() <-chan tun.Event { return q.events }

func (q *quiet) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	<-q.begin
	return q.Device.Read(bufs, sizes, offset)
}

func (q *quiet) start() { q.once.begin.Do(func() { close(q.begin) }) }

func (q *quiet) Close() error {
	q.once.close.Do(func() { close(q.events) })
	err := q.Device.Close()
	q.start()
	return err
}

// carry starts a carrier on a TUN device that exists. file is the device as an earlier run left it open, nil: it is
// opened. What wg(8) sets and shows goes through the socket in /run/wireguard.
func carry(name string, file *os.File, log *slog.Logger) (*carrier, error) {
	if file == nil {
		var err error
		if file, err = nl.OpenTUN(name); err != nil {
			return nil, err
		}
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	var dev tun.Device
	failed := raw.Control(func(fd uintptr) {
		var own int
		if own, err = dup(int(fd)); err == nil { // the package takes the descriptor for itself
			dev, _, err = tun.CreateUnmonitoredTUNFromFD(own)
		}
	})
	if err := errors.Join(failed, err, file.Close()); err != nil {
		return nil, exit.Errorf(exit.Refused, "use TUN device %s: %w", name, err)
	}
	socket, err := ipc.UAPIOpen(name)
	if err != nil {
		_ = dev.Close()
		return nil, exit.WithHint(exit.Errorf(exit.TryAgain, "open control socket of %s in /run/wireguard: %w", name, err),
			"another process carries a device of that name; one in another network namespace needs a /run of its own")
	}
	listener, err := net.FileListener(socket) // not the package's own, which takes one of root's few inotify instances
	if err := errors.Join(err, socket.Close()); err != nil {
		_ = dev.Close()
		return nil, fmt.Errorf("open control socket of %s: %w", name, err)
	}
	if l, ok := listener.(*net.UnixListener); ok {
		l.SetUnlinkOnClose(true)
	}
	c := &carrier{name: name, tun: newQuiet(dev), listener: listener, file: dev.File(), greeted: map[wgtypes.Key]bool{}}
	say := func(level slog.Level) func(string, ...any) {
		return func(format string, args ...any) {
			c.crossed.hear(time.Now(), format, args)
			if log.Enabled(context.Background(), level) {
				log.Log(context.Background(), level, "wireguard", "dev", name, "says", fmt.Sprintf(format, args...))
			}
		}
	}
	c.device = device.NewDevice(c.tun, conn.NewDefaultBind(), &device.Logger{Verbosef: say(slog.LevelDebug), Errorf: say(slog.LevelWarn)})
	if err := c.device.Up(); err != nil {
		c.Close()
		return nil, exit.Errorf(exit.Refused, "start WireGuard on %s: %w", name, err)
	}
	go c.answer()
	return c, nil
}

// answer serves the control socket until it is closed.
func (c *carrier) answer() {
	for {
		s, err := c.listener.Accept()
		if err != nil {
			return
		}
		go c.device.IpcHandle(s)
	}
}

// ended is closed when WireGuard stopped, as it does when its device is deleted.
func (c *carrier) ended() <-chan struct{} { return c.device.Wait() }

// alive says whether it has not ended.
func (c *carrier) alive() bool {
	select {
	case <-c.ended():
		return false
	default:
		return true
	}
}

// resized tells WireGuard of another MTU.
func (c *carrier) resized(mtu int) {
	if c.tun.mtu != mtu {
		c.tun.mtu = mtu
		select {
		case c.tun.events <- tun.EventMTUUpdate:
		default: // one is waiting; it is read then
		}
	}
}

// serve begins to carry packets, and shakes hands once with every peer. Sessions end with the process that had them, and what a peer sends
// in one that nobody has any more is lost until a new one is made. With one that came later, the handshake that it began itself was for
// nothing, if this node did not know it yet, and its next comes 5 s later.
func (c *carrier) serve(own wgtypes.Key, peers map[wgtypes.Key]peer) {
	c.crossed.be(own)
	c.tun.start()
	maps.DeleteFunc(c.greeted, func(key wgtypes.Key, _ bool) bool {
		_, ok := peers[key]
		return !ok
	})
	for key := range peers {
		if c.greeted[key] {
			continue
		}
		if p := c.device.LookupPeer(device.NoisePublicKey(key)); p != nil {
			c.greeted[key] = true
			p.SendKeepalive()
		}
	}
}

// Close stops it. The TUN device stays.
func (c *carrier) Close() {
	c.listener.Close() //nolint:errcheck // nothing was written to it
	c.device.Close()
}
