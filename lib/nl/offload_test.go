package nl

import (
	"encoding/binary"
	"testing"
	"unsafe"
)

// TestEthtoolRequest fixes what the kernel is given: struct ethtool_value, and struct ifreq of its size.
func TestEthtoolRequest(t *testing.T) {
	v := ethtoolValue{cmd: 0x17, data: 1}
	want := binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, 0x17), 1)
	if got := (*[8]byte)(unsafe.Pointer(&v)); string(got[:]) != string(want) || unsafe.Sizeof(v) != 8 {
		t.Errorf("% x, want % x", *got, want)
	}
	r := ethtoolRequest("flannel.1", &v)
	if got := (*[16]byte)(unsafe.Pointer(&r)); string(got[:]) != "flannel.1\x00\x00\x00\x00\x00\x00\x00" {
		t.Errorf("name %q", *got)
	}
	if at, size := unsafe.Offsetof(r.data), unsafe.Sizeof(r); at != 16 || size < 16+24 || r.data != unsafe.Pointer(&v) {
		t.Errorf("pointer at %d of %d bytes", at, size)
	}
}
