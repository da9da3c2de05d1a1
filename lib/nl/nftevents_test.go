package nl

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// nftMessage builds a netlink message of nftables.
func nftMessage(kind int, family byte, attrs ...[]byte) []byte {
	body := []byte{family, 0, 0, 0}
	for _, a := range attrs {
		body = append(body, a...)
	}
	m := make([]byte, unix.NLMSG_HDRLEN, unix.NLMSG_HDRLEN+len(body))
	binary.NativeEndian.PutUint32(m, uint32(len(m)+len(body)))
	binary.NativeEndian.PutUint16(m[4:], uint16(unix.NFNL_SUBSYS_NFTABLES<<8|kind))
	return append(m, body...)
}

func nftAttr(kind uint16, value string) []byte {
	a := make([]byte, 4, 4+len(value)+3)
	binary.NativeEndian.PutUint16(a, uint16(4+len(value)))
	binary.NativeEndian.PutUint16(a[2:], kind)
	a = append(a, value...)
	return append(a, make([]byte, align(len(value))-len(value))...)
}

// FuzzParseNFT: no datagram makes it panic or take what lies beyond it.
func FuzzParseNFT(f *testing.F) {
	rule := nftMessage(unix.NFT_MSG_NEWRULE, unix.NFPROTO_INET, nftAttr(unix.NFTA_RULE_TABLE, "a\x00"), nftAttr(unix.NFTA_RULE_CHAIN, "b\x00"))
	gen := nftMessage(unix.NFT_MSG_NEWGEN, 0, nftAttr(unix.NFTA_GEN_ID, "\x00\x00\x00\x07"), nftAttr(unix.NFTA_GEN_PROC_NAME, "nft\x00"))
	f.Add(append(rule, gen...))
	f.Add(rule[:len(rule)-3])
	f.Add([]byte{16, 0, 0, 0})
	f.Fuzz(func(t *testing.T, datagram []byte) {
		var open NFTChange
		done := parseNFT(datagram, &open)
		if len(done) > len(datagram)/unix.NLMSG_HDRLEN {
			t.Errorf("%d transactions in %d bytes", len(done), len(datagram))
		}
	})
}

func TestParseNFT(t *testing.T) {
	rule := nftMessage(unix.NFT_MSG_NEWRULE, unix.NFPROTO_INET, nftAttr(unix.NFTA_RULE_TABLE, "a\x00"), nftAttr(unix.NFTA_RULE_CHAIN, "b\x00"))
	gen := nftMessage(unix.NFT_MSG_NEWGEN, 0, nftAttr(unix.NFTA_GEN_ID, "\x00\x00\x00\x07"), nftAttr(unix.NFTA_GEN_PROC_NAME, "nft\x00"))
	var open NFTChange
	if done := parseNFT(rule, &open); len(done) != 0 {
		t.Fatalf("a transaction without an end: %+v", done)
	}
	done := parseNFT(append(append([]byte{}, gen...), gen...), &open) // the end comes in another datagram
	if len(done) != 2 || done[0].Generation != 7 || done[0].Process != "nft" || len(done[1].Objects) != 0 {
		t.Fatalf("got %+v", done)
	}
	if _, ok := done[0].Objects[NFTObject{"inet", "a", "b"}]; !ok || len(done[0].Objects) != 1 {
		t.Errorf("objects %v", done[0].Objects)
	}
}
