package main

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"regexp"
	"time"

	"github.com/towpath/towpath/lib/state"
)

// Record is one node's lease as a store holds it, in a file store DIR/NODE.json.
type Record struct {
	Version  int                      `json:"version"`
	Node     string                   `json:"node"`
	Subnet   state.Pair[netip.Prefix] `json:"subnet"`
	PublicIP state.Pair[netip.Addr]   `json:"publicIP"`         // empty: reserved, and not taken up yet
	Backend  state.Published          `json:"backend,omitzero"` // what the node tells the others
	// Granted is when the subnet was leased. Of two records that overlap the older one counts.
	Granted time.Time `json:"granted,omitzero"`
	// Expires is when others may take the subnet; zero: never, it is reserved, or etcd alone knows.
	Expires time.Time `json:"expires,omitzero"`
	// Created is the store's own order of the records, where it has one, and counts before Granted; Lease is what ends the
	// record, if that is the store itself and no clock of a node's.
	Created, Lease int64 `json:"-"`
}

// Validate checks what subnet-lease relies on.
func (r *Record) Validate() error {
	p := state.Peer{Node: r.Node, Subnet: r.Subnet, PublicIP: r.PublicIP, Backend: state.Published{Type: "any"}}
	return p.Validate()
}

// Reserved says that the lease never expires.
func (r *Record) Reserved() bool { return r.Expires.IsZero() && r.Lease == 0 }

// Expired says that others may take the subnet.
func (r *Record) Expired(now time.Time) bool {
	return !r.Expires.IsZero() && r.Lease == 0 && !now.Before(r.Expires)
}

// Announced says that the node has taken the lease up and can be reached.
func (r *Record) Announced() bool {
	return r.Backend.Type != "" && r.PublicIP != (state.Pair[netip.Addr]{})
}

// peer is the record as the other nodes' programs read it.
func (r *Record) peer() state.Peer {
	return state.Peer{Version: state.Version, Node: r.Node, Subnet: r.Subnet, PublicIP: r.PublicIP, Backend: r.Backend}
}

// equal compares all but the expiry.
func (r *Record) equal(o *Record) bool {
	return r.Node == o.Node && r.Subnet == o.Subnet && r.PublicIP == o.PublicIP && samePublished(r.Backend, o.Backend) &&
		r.Granted.Equal(o.Granted)
}

func samePublished(a, b state.Published) bool {
	return a.Type == b.Type && bytes.Equal(a.Data, b.Data) && bytes.Equal(a.DataV6, b.DataV6)
}

// canonical strips the layout of a file from the raw parts, so that they compare.
func canonical(p state.Published) state.Published {
	compact := func(raw json.RawMessage) json.RawMessage {
		var out bytes.Buffer
		if len(raw) == 0 || json.Compact(&out, raw) != nil || out.String() == "null" {
			return nil
		}
		return out.Bytes()
	}
	return state.Published{Type: p.Type, Data: compact(p.Data), DataV6: compact(p.DataV6)}
}

// stamp is a time as records hold it: short enough to be read.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

var quoted = regexp.MustCompile(`"([0-9a-fA-F.:]+/[0-9]{1,3})"`)

// claims finds what looks like a subnet in the bytes of a record that cannot be read, so that nobody
// is given it.
func claims(data []byte) []netip.Prefix {
	var found []netip.Prefix
	for _, m := range quoted.FindAllSubmatch(data, 100) {
		if p, err := netip.ParsePrefix(string(m[1])); err == nil {
			found = append(found, p.Masked())
		}
	}
	return found
}
