package nl

import (
	"encoding/binary"
	"errors"
	"fmt"

	lib "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// NFTGeneration is the generation id of the nftables ruleset in the network namespace of the calling
// thread. Every committed transaction counts it up by one, also one that changed nothing that can be
// seen; equal ids mean an unchanged ruleset.
func NFTGeneration() (uint32, error) {
	attrs, err := nftGet("read nftables generation", unix.NFT_MSG_GETGEN, "", nil)
	if err != nil {
		return 0, err
	}
	id := attribute(attrs, unix.NFTA_GEN_ID)
	if len(id) != 4 {
		return 0, kernelError("read nftables generation", unix.ENOMSG)
	}
	return binary.BigEndian.Uint32(id), nil
}

// NFTTable says whether there is a table.
func NFTTable(family, table string) (bool, error) {
	attrs, err := nftGet(fmt.Sprintf("read nftables table %s %s", family, table), unix.NFT_MSG_GETTABLE, family,
		map[int]string{unix.NFTA_TABLE_NAME: table})
	return attrs != nil, err
}

// NFTChain is a chain of nftables.
type NFTChain struct {
	Base   bool   // it is called by the kernel, not only by other chains
	Policy string // of a base chain: accept or drop
}

// ReadNFTChain reads a chain; ok is false when there is none.
func ReadNFTChain(family, table, chain string) (c NFTChain, ok bool, err error) {
	attrs, err := nftGet(fmt.Sprintf("read nftables chain %s %s %s", family, table, chain), unix.NFT_MSG_GETCHAIN, family,
		map[int]string{unix.NFTA_CHAIN_TABLE: table, unix.NFTA_CHAIN_NAME: chain})
	if err != nil || attrs == nil {
		return NFTChain{}, false, err
	}
	c.Base = attribute(attrs, unix.NFTA_CHAIN_HOOK) != nil
	if p := attribute(attrs, unix.NFTA_CHAIN_POLICY); c.Base && len(p) == 4 {
		c.Policy = "drop"
		if binary.BigEndian.Uint32(p) == 1 { // NF_ACCEPT
			c.Policy = "accept"
		}
	}
	return c, true, nil
}

// nftGet asks for one object and returns its attributes, nil when there is no such object.
func nftGet(what string, kind int, family string, names map[int]string) ([]byte, error) {
	req := lib.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|kind, 0)
	req.AddRawData([]byte{nftFamilies[family], unix.NFNETLINK_V0, 0, 0}) // struct nfgenmsg

	for _, attr := range []int{1, 2, 3} { // in the order of their numbers
		if name, ok := names[attr]; ok {
			req.AddRawData(lib.NewRtAttr(attr, lib.ZeroTerminated(name)).Serialize())
		}
	}
	replies, err := dump(what, func() ([][]byte, error) { return req.Execute(unix.NETLINK_NETFILTER, 0) })
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, nil
	case err != nil:
		return nil, err
	case len(replies) == 0 || len(replies[0]) < 4:
		return nil, kernelError(what, unix.ENOMSG)
	}
	return replies[0][4:], nil
}
