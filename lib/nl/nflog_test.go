package nl

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func logged() []byte {
	be32 := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	b, start := begin(nil, unix.NFNL_SUBSYS_ULOG<<8|logMsgPacket, 0, 0)
	b = append(b, unix.NFPROTO_BRIDGE, 0, 0, 100)
	b = appendAttr(b, logPacketHdr, []byte{0x08, 0x06, 2, 0})
	b = appendAttr(b, logPrefix, []byte("towpath S spoof \x00"))
	b = appendAttr(b, logTimestamp, append(binary.BigEndian.AppendUint64(nil, 1700000000), binary.BigEndian.AppendUint64(nil, 5)...))
	b = appendAttr(b, logInDev, be32(7))
	b = appendAttr(b, logPhysIn, be32(8))
	b = appendAttr(b, logHWAddr, []byte{0, 6, 0, 0, 2, 0, 0, 0, 0, 9, 0, 0})
	b = appendAttr(b, logPayload, []byte{1, 2, 3})
	return finish(b, start)
}

func TestParseLog(t *testing.T) {
	want := LoggedPacket{
		Time: time.Unix(1700000000, 5000), Family: "bridge", Prefix: "towpath S spoof ", Hook: 2, Protocol: 0x0806,
		In: 7, PhysIn: 8, Source: MAC{2, 0, 0, 0, 0, 9}, Payload: []byte{1, 2, 3},
	}
	two := append(logged(), logged()...)
	if diff := cmp.Diff([]LoggedPacket{want, want}, parseLog(two)); diff != "" {
		t.Error(diff)
	}
	if got := parseLog(two[:len(two)-5]); len(got) != 1 {
		t.Errorf("cut off: %+v", got)
	}
}

func FuzzParseLog(f *testing.F) {
	f.Add(logged())
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, p := range parseLog(data) {
			if len(p.Payload) > len(data) {
				t.Errorf("a payload of %d bytes out of %d", len(p.Payload), len(data))
			}
		}
	})
}
