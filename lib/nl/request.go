package nl

import (
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// request is a Change whose message is built when it is made: those of devices and addresses.
type request struct {
	text        string
	kind, flags uint16
	body        []byte
	already     []unix.Errno // refusals that mean: it is so already
}

func (r request) String() string { return r.text }

func (r request) encode(b []byte, seq uint32) []byte {
	b, start := begin(b, r.kind, r.flags|unix.NLM_F_ACK, seq)
	return finish(append(b, r.body...), start)
}

func (r request) done(errno unix.Errno) bool { return slices.Contains(r.already, errno) }

// Do makes the changes in one write, each whatever became of those before it, and returns the error of
// the first that the kernel refused, with its text.
func (s *Socket) Do(changes ...Change) error {
	for i, err := range s.Apply(changes, nil) {
		if err != nil {
			return fmt.Errorf("%s: %w", changes[i], err)
		}
	}
	return nil
}

// appendLink appends struct ifinfomsg.
func appendLink(b []byte, index int, flags, change uint32) []byte {
	b = append(b, unix.AF_UNSPEC, 0, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	b = binary.NativeEndian.AppendUint32(b, flags)
	return binary.NativeEndian.AppendUint32(b, change)
}

func appendAttrText(b []byte, attr uint16, s string) []byte {
	return appendAttr(b, attr, append([]byte(s), 0))
}

func appendAttrBool(b []byte, attr uint16, v bool) []byte {
	if v {
		return appendAttr(b, attr, []byte{1})
	}
	return appendAttr(b, attr, []byte{0})
}

func onOff(v bool) string {
	if v {
		return "on"
	}
	return "off"
}

// Of linux/if_link.h, linux/veth.h and linux/if_addr.h.
const (
	infoKind         = 1
	infoData         = 2
	infoSlaveKind    = 4
	infoSlaveData    = 5
	vethInfoPeer     = 1
	inet6AddrGenMode = 8
	addrGenModeNone  = 1
	brportHairpin    = 4
	brportIsolated   = 33
	aliasMax         = 255
	ifaFNoDAD        = 0x02
	extFilterNoStats = 1 << 3
)
