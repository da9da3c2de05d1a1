package main

import (
	"encoding/binary"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"
)

// ipv4 is a packet with the given header fields.
func ipv4(src, dst string, protocol byte, payload []byte) []byte {
	b := make([]byte, ipv4Header, ipv4Header+len(payload))
	b[0], b[8], b[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(b[2:], uint16(ipv4Header+len(payload)))
	binary.BigEndian.PutUint32(b[12:], at(src))
	binary.BigEndian.PutUint32(b[16:], at(dst))
	binary.BigEndian.PutUint16(b[10:], internetChecksum(b))
	return append(b, payload...)
}

func TestParse(t *testing.T) {
	good := ipv4("10.244.1.2", "10.244.2.3", 17, []byte("hello"))
	p, ok := parse(append(good, 0, 0, 0)) // padded on the way
	if want := (packet{at("10.244.1.2"), at("10.244.2.3"), len(good)}); !ok || p != want {
		t.Errorf("%+v %t, want %+v", p, ok, want)
	}
	for name, b := range map[string][]byte{
		"empty": nil, "short": good[:19], "cut off": good[:len(good)-1], "IPv6": append([]byte{0x60}, good[1:]...),
		"header of 16": append([]byte{0x44}, good[1:]...), "header longer than the packet": append([]byte{0x4f}, good[1:]...),
		"length below the header's": slices.Concat(good[:2], []byte{0, 19}, good[4:]),
	} {
		if p, ok := parse(b); ok {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// FuzzInbound: whatever comes from wherever in whatever pieces, only what is allowed reaches the device.
func FuzzInbound(f *testing.F) {
	good := ipv4("10.244.2.3", "10.244.1.2", 17, []byte("hello"))
	f.Add(at("192.168.0.2"), good, 0)
	f.Add(at("192.168.0.2"), append(slices.Clone(good), good...), len(good))
	f.Add(at("192.168.0.9"), good, -1)
	f.Add(uint32(0), []byte{}, 1)
	table := newTable()
	table.set("b", peerAt("b", "10.244.2.0/24", "192.168.0.2"))
	table.set("c", peerAt("c", "10.244.3.0/24", "192.168.0.3"))
	in := newInbound(table, &counters{}, at("10.244.1.0"), 24)
	f.Fuzz(func(t *testing.T, from uint32, b []byte, segment int) {
		if len(b) > 1<<16 {
			return
		}
		var dev recorder
		if err := in.datagram(from, b, segment, &dev); err != nil {
			t.Fatal(err)
		}
		if err := in.flush(&dev); err != nil {
			t.Fatal(err)
		}
		for _, p := range dev.packets {
			got, ok := parse(p)
			if !ok || got.size != len(p) || got.dst>>8 != at("10.244.1.0")>>8 {
				t.Errorf("delivered %x", p)
			}
			if from != at("192.168.0.2") && from != at("192.168.0.3") || got.src != from && got.src>>8 != at("10.244.2.0")>>8 && got.src>>8 != at("10.244.3.0")>>8 {
				t.Errorf("delivered from %x: %x", from, p)
			}
		}
		if deservesError(ipv4("10.244.1.2", "10.244.2.3", 1, b)) && len(b) == 0 {
			t.Error("an error about an ICMP packet without a type")
		}
		segmentOf(b)
	})
}

func TestControl(t *testing.T) {
	b := make([]byte, controlSize)
	control(b, 1472)
	messages, err := unix.ParseSocketControlMessage(b[:unix.CmsgSpace(2)])
	if err != nil || len(messages) != 1 || messages[0].Header.Type != unix.UDP_SEGMENT || binary.NativeEndian.Uint16(messages[0].Data) != 1472 {
		t.Errorf("%+v %v", messages, err)
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Type = unix.UDP_GRO
	h.SetLen(unix.CmsgLen(4))
	binary.NativeEndian.PutUint32(b[unix.CmsgLen(0):], 1400)
	if got := segmentOf(b); got != 1400 {
		t.Errorf("segment of %d", got)
	}
	if got := segmentOf(nil); got != 0 {
		t.Errorf("segment of %d where there is none", got)
	}
}

func TestMessage(t *testing.T) {
	about := ipv4("10.244.1.2", "10.244.2.3", 17, make([]byte, 1000))
	e := errands{}
	m := message(e.buf[:], about, icmpFragNeeded, 1372)
	if len(m) != 8+maxQuote || m[0] != 3 || m[1] != 4 || binary.BigEndian.Uint16(m[6:]) != 1372 || internetChecksum(m) != 0 || string(m[8:28]) != string(about[:20]) {
		t.Errorf("%x", m[:28])
	}
}

func TestDeservesError(t *testing.T) {
	fragment := ipv4("10.244.1.2", "10.244.2.3", 17, []byte("x"))
	fragment[7] = 1
	for name, tc := range map[string]struct {
		b    []byte
		want bool
	}{
		"UDP":                   {ipv4("10.244.1.2", "10.244.2.3", 17, []byte("x")), true},
		"echo request":          {ipv4("10.244.1.2", "10.244.2.3", 1, []byte{8, 0}), true},
		"time exceeded":         {ipv4("10.244.1.2", "10.244.2.3", 1, []byte{11, 0}), false},
		"unreachable":           {ipv4("10.244.1.2", "10.244.2.3", 1, []byte{3, 1}), false},
		"ICMP without a type":   {ipv4("10.244.1.2", "10.244.2.3", 1, nil), false},
		"fragment not first":    {fragment, false},
		"multicast":             {ipv4("10.244.1.2", "224.0.0.1", 17, []byte("x")), false},
		"broadcast":             {ipv4("10.244.1.2", "255.255.255.255", 17, []byte("x")), false},
		"from nowhere":          {ipv4("0.0.0.0", "10.244.2.3", 17, []byte("x")), false},
		"from a multicast one":  {ipv4("224.0.0.1", "10.244.2.3", 17, []byte("x")), false},
		"from the node to none": {ipv4("127.0.0.1", "10.244.2.3", 17, []byte("x")), false},
	} {
		if got := deservesError(tc.b); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestErrandsAreLimited(t *testing.T) {
	e := errands{tokens: icmpBurst, filled: time.Unix(0, 0)}
	now := time.Unix(0, 0)
	count := func() (n int) {
		for range 1000 {
			if e.allowed(now) {
				n++
			}
		}
		return n
	}
	if n := count(); n != icmpBurst {
		t.Errorf("%d at once", n)
	}
	now = now.Add(100 * time.Millisecond)
	if n := count(); n != icmpPerSecond/10 {
		t.Errorf("%d after 0.1 s", n)
	}
	now = now.Add(time.Hour)
	if n := count(); n != icmpBurst {
		t.Errorf("%d after an hour", n)
	}
}

func TestCounters(t *testing.T) {
	var c counters
	c.out.Add(3)
	if got := c.String(); got != "carried 3 out, 0 in" {
		t.Error(got)
	}
	c.count(malformed, 7)
	c.count(noPeer, 2)
	c.count(forged, 1)
	if got := c.String(); got != "carried 3 out, 0 in; dropped 2 to no peer, 1 of a source that is not the peer's" {
		t.Error(got)
	}
	for v := malformed; v < verdicts; v++ {
		if strings.TrimSpace(verdictTexts[v]) == "" {
			t.Errorf("verdict %d has no text", v)
		}
	}
}

// recorder is a device that keeps what it is given.
type recorder struct {
	device
	packets [][]byte
}

func (r *recorder) Write(bufs [][]byte, offset int) (int, error) {
	for _, b := range bufs {
		r.packets = append(r.packets, slices.Clone(b[offset:]))
	}
	return len(bufs), nil
}

// device is a tun.Device that gives the same packets again and again, and takes everything.
type device struct {
	nothing
	packets [][]byte
}

func (d *device) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	for i, p := range d.packets {
		sizes[i] = copy(bufs[i][offset:], p)
	}
	if len(d.packets) == 0 {
		return 0, os.ErrClosed
	}
	return len(d.packets), nil
}
func (d *device) Write(bufs [][]byte, _ int) (int, error) { return len(bufs), nil }

// nothing is what the tunnel does not ask of a device.
type nothing struct{}

func (nothing) File() *os.File           { return nil }
func (nothing) MTU() (int, error)        { return 1472, nil }
func (nothing) Name() (string, error)    { return deviceName, nil }
func (nothing) Events() <-chan tun.Event { return nil }
func (nothing) Close() error             { return nil }
func (nothing) BatchSize() int           { return frames }

// TestNoAllocation: a packet costs no memory, in either direction.
func TestNoAllocation(t *testing.T) {
	table := newTable()
	table.set("b", peerAt("b", "10.244.2.0/24", "127.0.0.1"))
	to, err := listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	raw, err := to.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	out := newOutbound(table, &counters{}, nil, 9)
	in := newInbound(table, &counters{}, at("10.244.1.0"), 24)
	dev := device{packets: [][]byte{ipv4("10.244.1.2", "10.244.2.3", 17, make([]byte, 100)), ipv4("10.244.1.2", "10.244.2.4", 17, make([]byte, 100))}}
	back := ipv4("10.244.2.3", "10.244.1.2", 17, make([]byte, 100))
	if n := testing.AllocsPerRun(100, func() {
		n, _ := dev.Read(out.bufs, out.sizes, 0)
		out.sort(n)
		if err := out.send(raw); err != nil {
			t.Fatal(err)
		}
		if err := in.datagram(at("127.0.0.1"), back, 0, &dev); err != nil {
			t.Fatal(err)
		}
		if err := in.flush(&dev); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkInbound: 44 packets of a TCP stream in one datagram, looked at and handed over.
func BenchmarkInbound(b *testing.B) {
	in := newInbound(many(5000), &counters{}, at("10.244.1.0"), 24)
	one := ipv4("10.0.9.3", "10.244.1.2", 6, make([]byte, 1452))
	var whole []byte
	for range 44 {
		whole = append(whole, one...)
	}
	var dev device
	b.SetBytes(int64(len(whole)))
	b.ReportAllocs()
	for b.Loop() {
		if err := in.datagram(at("192.168.0.9"), whole, len(one), &dev); err != nil {
			b.Fatal(err)
		}
		if err := in.flush(&dev); err != nil {
			b.Fatal(err)
		}
	}
	if in.counters.in.Load() != uint64(44*b.N) {
		b.Fatalf("%s", in.counters)
	}
}

// BenchmarkOutbound: 44 packets of a TCP stream, sent over lo as one.
func BenchmarkOutbound(b *testing.B) {
	table := newTable()
	table.set("b", peerAt("b", "10.244.2.0/24", "127.0.0.1"))
	to, err := listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		b.Fatal(err)
	}
	defer to.Close()
	raw, err := to.SyscallConn()
	if err != nil {
		b.Fatal(err)
	}
	var dev device
	for range 44 {
		dev.packets = append(dev.packets, ipv4("10.244.1.2", "10.244.2.3", 6, make([]byte, 1452)))
	}
	out := newOutbound(table, &counters{}, nil, 9) // nobody listens
	b.SetBytes(int64(44 * len(dev.packets[0])))
	b.ReportAllocs()
	for b.Loop() {
		n, err := dev.Read(out.bufs, out.sizes, 0)
		if err != nil {
			b.Fatal(err)
		}
		out.sort(n)
		if err := out.send(raw); err != nil {
			b.Fatal(err)
		}
	}
	if out.counters.out.Load() != uint64(44*b.N) {
		b.Fatalf("%s", out.counters)
	}
}
