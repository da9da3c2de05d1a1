package main

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn/bindtest"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/tuntest"
)

// TestHandshakesCross: two nodes begin a handshake with each other in the same instant, again and again, and packets pass both ways
// soon after each time.
func TestHandshakesCross(t *testing.T) {
	const rounds = 60
	var devices [2]*device.Device
	var tuns [2]*tuntest.ChannelTUN
	var crossed [2]crossings
	ip := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}) }
	for i, bind := range bindtest.NewChannelBinds() {
		tuns[i] = tuntest.NewChannelTUN()
		log := &device.Logger{
			Verbosef: func(format string, args ...any) { crossed[i].hear(time.Now(), format, args) },
			Errorf:   t.Logf,
		}
		devices[i] = device.NewDevice(tuns[i].TUN(), bind, log)
		defer devices[i].Close()
	}
	peers := [2]*device.Peer{}
	for i, d := range devices {
		key := keyOf(byte(i + 1))
		crossed[i].be(key.public())
		if err := d.IpcSet("private_key=" + hex.EncodeToString(key[:]) + "\nlisten_port=0\n"); err != nil {
			t.Fatal(err)
		}
		if err := d.Up(); err != nil {
			t.Fatal(err)
		}
	}
	for i, d := range devices {
		other := keyOf(byte(2 - i)).public()
		if err := d.IpcSet(fmt.Sprintf("public_key=%x\nendpoint=127.0.0.1:%d\nallowed_ip=%s/32\n", other[:], 3+i, ip(1-i))); err != nil {
			t.Fatal(err)
		}
		peers[i] = d.LookupPeer(device.NoisePublicKey(other))
	}
	for i, p := range peers {
		if name := crossed[1-i].own; p.String() != name {
			t.Errorf("a node takes its name for %s; the other one's log says %s", name, p)
		}
	}
	arrives := func(from int) bool {
		packet := tuntest.Ping(ip(1-from), ip(from))
		for range 80 { // 4 s: less than the 5 s after which the module begins again by itself
			select {
			case tuns[from].Outbound <- packet:
			case <-time.After(2 * time.Second):
				return false
			}
			select {
			case <-tuns[1-from].Inbound:
				return true
			case <-time.After(50 * time.Millisecond):
			}
		}
		return false
	}
	for round := range rounds {
		var wait sync.WaitGroup
		for _, p := range peers {
			p.ExpireCurrentKeypairs()
		}
		for _, p := range peers {
			wait.Go(p.SendKeepalive)
		}
		wait.Wait()
		for from := range peers {
			if !arrives(from) {
				t.Fatalf("round %d: nothing arrives from node %d for 4 s", round, from)
			}
		}
		for _, tun := range tuns { // what came late
			for more := true; more; {
				select {
				case <-tun.Inbound:
				case <-time.After(30 * time.Millisecond):
					more = false
				}
			}
		}
	}
}
