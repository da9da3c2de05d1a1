package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/netconf"
	"github.com/towpath/towpath/lib/state"
)

func subnets(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, t := range texts {
		all = append(all, netip.MustParsePrefix(t))
	}
	return all
}

func TestLowestFree(t *testing.T) {
	for _, c := range []struct{ name, lo, hi, taken, want string }{
		{"nothing taken", "10.244.0.0/24", "10.244.255.0/24", "", "10.244.0.0/24"},
		{"the first taken", "10.244.0.0/24", "10.244.255.0/24", "10.244.0.0/24", "10.244.1.0/24"},
		{"a gap", "10.244.0.0/24", "10.244.255.0/24", "10.244.2.0/24 10.244.0.0/24", "10.244.1.0/24"},
		{"the same twice", "10.244.0.0/24", "10.244.255.0/24", "10.244.0.0/24 10.244.0.0/24", "10.244.1.0/24"},
		{"a longer one inside", "10.244.0.0/24", "10.244.255.0/24", "10.244.0.128/25", "10.244.1.0/24"},
		{"a shorter one around", "10.244.0.0/24", "10.244.255.0/24", "10.244.0.0/20 10.244.3.0/24", "10.244.16.0/24"},
		{"before the range", "10.244.10.0/24", "10.244.255.0/24", "10.244.0.0/24 10.243.0.0/16", "10.244.10.0/24"},
		{"around the start", "10.244.10.0/24", "10.244.255.0/24", "10.244.8.0/21", "10.244.16.0/24"},
		{"the last one", "10.244.254.0/24", "10.244.255.0/24", "10.244.254.0/24", "10.244.255.0/24"},
		{"none", "10.244.254.0/24", "10.244.255.0/24", "10.244.254.0/24 10.244.255.0/24", ""},
		{"none, all of it one", "10.244.254.0/24", "10.244.255.0/24", "10.0.0.0/8", ""},
		{"none at the end of the world", "255.255.255.0/24", "255.255.255.0/24", "255.255.255.0/24", ""},
		{"IPv6", "fd00::/64", "fd00:0:0:ffff::/64", "fd00::/64 fd00:0:0:1::/64", "fd00:0:0:2::/64"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := lowestFree(netip.MustParsePrefix(c.lo), netip.MustParsePrefix(c.hi), subnets(strings.Fields(c.taken)...))
			if ok != (c.want != "") || ok && got.String() != c.want {
				t.Errorf("got %v, %t; want %q", got, ok, c.want)
			}
		})
	}
}

// FuzzLowestFree compares with the obvious algorithm.
func FuzzLowestFree(f *testing.F) {
	f.Add(uint16(0), uint16(255), []byte{24, 0, 0, 25, 1, 128, 20, 16, 0})
	f.Fuzz(func(t *testing.T, lo, hi uint16, raw []byte) {
		prefix := func(bits int, n uint16) netip.Prefix {
			return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(n >> 8), byte(n)}), bits).Masked()
		}
		first, last := prefix(24, lo), prefix(24, hi)
		var taken []netip.Prefix
		for ; len(raw) >= 3; raw = raw[3:] {
			taken = append(taken, prefix(int(raw[0]%33), uint16(raw[1])<<8|uint16(raw[2])))
		}
		want := netip.Prefix{}
	search:
		for n := int(lo >> 8); n <= int(hi>>8); n++ {
			p := prefix(24, uint16(n<<8))
			for _, q := range taken {
				if p.Overlaps(q) {
					continue search
				}
			}
			want = p
			break
		}
		if got, ok := lowestFree(first, last, taken); last.Addr().Compare(first.Addr()) >= 0 && (got != want || ok != want.IsValid()) {
			t.Errorf("lowestFree(%s, %s, %s) = %s, want %s", first, last, taken, got, want)
		}
	})
}

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// record makes a record from text: "NODE SUBNET… [LIFETIME|reserved] [unannounced]".
func record(text string) *Record {
	fields := strings.Fields(text)
	r := &Record{
		Version: 1, Node: fields[0], Granted: now.Add(-time.Hour), Expires: now.Add(23 * time.Hour), Backend: state.Published{Type: "vxlan"},
		PublicIP: state.Pair[netip.Addr]{IPv4: netip.MustParseAddr(fmt.Sprintf("192.168.7.%d", fields[0][0]))},
	}
	for _, f := range fields[1:] {
		if p, err := netip.ParsePrefix(f); err == nil {
			r.Subnet.Set(state.FamilyOf(p.Addr()), p)
		} else if d, err := time.ParseDuration(f); err == nil {
			r.Expires = now.Add(d)
		} else if f == "reserved" {
			r.Expires = time.Time{}
		} else if f == "unannounced" {
			r.PublicIP, r.Backend = state.Pair[netip.Addr]{}, state.Published{}
		}
	}
	return r
}

// listing makes a listing of records, separated by commas; "NODE unreadable SUBNET" is one that cannot
// be read.
func listing(text string) Listing {
	l := Listing{Entries: map[string]Entry{}}
	for part := range strings.SplitSeq(text, ",") {
		fields := strings.Fields(part)
		switch {
		case len(fields) == 0:
		case len(fields) > 1 && fields[1] == "unreadable":
			l.Entries[fields[0]] = Entry{Err: errors.New("unreadable"), Claims: subnets(fields[2:]...)}
		default:
			l.Entries[fields[0]] = Entry{Record: record(part)}
		}
	}
	return l
}

func conf(t testing.TB, text string) netconf.Config {
	t.Helper()
	c, _, err := netconf.Parse("net-conf.json", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const (
	plain   = `{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}`
	two     = `{"Network":"10.244.0.0/16","SubnetMin":"10.244.4.0","SubnetMax":"10.244.5.0","Backend":{"Type":"vxlan"}}`
	dual    = `{"EnableIPv6":true,"Network":"10.244.0.0/16","IPv6Network":"fd00:10:244::/48","Backend":{"Type":"vxlan"}}`
	onlyIP6 = `{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","Backend":{"Type":"vxlan"}}`
)

func TestPick(t *testing.T) {
	for _, c := range []struct {
		name, conf, have, before, want, notice string
	}{
		{"an empty store", plain, "", "", "10.244.0.0/24", ""},
		{"the lowest free one", plain, "b 10.244.0.0/24, c 10.244.2.0/24", "", "10.244.1.0/24", ""},
		{"its own", plain, "a 10.244.9.0/24, b 10.244.0.0/24", "", "10.244.9.0/24", ""},
		{"its own, expired", plain, "a 10.244.9.0/24 -1h", "", "10.244.9.0/24", ""},
		{"its own before that of the file", plain, "a 10.244.9.0/24", "10.244.3.0/24", "10.244.9.0/24", ""},
		{"that of the file", plain, "b 10.244.0.0/24", "10.244.3.0/24", "10.244.3.0/24", ""},
		{"that of the file is taken", plain, "b 10.244.3.0/24", "10.244.3.0/24", "10.244.0.0/24", ""},
		{"that of the file has expired with another", plain, "b 10.244.3.0/24 -1h", "10.244.3.0/24", "10.244.0.0/24", ""},
		{"that of the file does not fit", plain, "", "10.99.3.0/24", "10.244.0.0/24", ""},
		{"a reservation", plain, "a 10.244.7.0/24 reserved unannounced", "10.244.3.0/24", "10.244.7.0/24 reserved", ""},
		{"a reservation beyond the range", two, "a 10.244.7.0/24 reserved unannounced", "", "10.244.7.0/24 reserved", ""},
		{"a reservation of one family", dual, "a 10.244.7.0/24 reserved unannounced", "", "10.244.7.0/24 fd00:10:244::/64 reserved", ""},
		{"reservations of others", plain, "b 10.244.0.0/24 reserved unannounced", "", "10.244.1.0/24", ""},
		{"expired ones of others last", two, "b 10.244.4.0/24 -1h", "", "10.244.5.0/24", ""},
		{"expired ones of others", two, "b 10.244.4.0/24 -1h, c 10.244.5.0/24", "", "10.244.4.0/24", ""},
		{"none", two, "b 10.244.4.0/24, c 10.244.5.0/24", "", "75 no free subnet: every /24 from SubnetMin 10.244.4.0/24 to SubnetMax 10.244.5.0/24 is leased", ""},
		{"none but an unreadable one", two, "b unreadable 10.244.4.0/24, c 10.244.5.0/24", "", "75 no free subnet", ""},
		{"an unreadable one", plain, "b unreadable 10.244.0.0/24", "", "10.244.1.0/24", ""},
		{"an unreadable one of its own", plain, "a unreadable", "", "unreadable", ""},
		{"dual stack", dual, "b 10.244.0.0/24 fd00:10:244:1::/64", "", "10.244.1.0/24 fd00:10:244::/64", ""},
		{"dual stack, the second family added", dual, "a 10.244.8.0/24", "", "10.244.8.0/24 fd00:10:244::/64", ""},
		{"a family taken away", plain, "a 10.244.8.0/24 fd00:10:244::/64", "", "10.244.8.0/24", ""},
		{"IPv6 alone", onlyIP6, "a 10.244.8.0/24 fd00:10:244:5::/64", "", "fd00:10:244:5::/64", ""},
		{"a network edited", plain, "a 10.99.0.0/24, b 10.244.0.0/24", "", "10.244.1.0/24", "subnet 10.99.0.0/24 is given up: it lies outside the network 10.244.0.0/16"},
		{"a length edited", plain, "a 10.244.0.0/25", "", "10.244.0.0/24", "subnet 10.244.0.0/25 is given up: it is no /24, which subnets are now"},
		{"a range edited", two, "a 10.244.0.0/24", "", "10.244.4.0/24", "subnet 10.244.0.0/24 is given up: it lies outside SubnetMin 10.244.4.0/24 and SubnetMax 10.244.5.0/24"},
		{"foreign ones of other lengths", plain, "b 10.244.0.0/22, c 10.244.4.128/25", "", "10.244.5.0/24", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := Request{Node: "a", Conf: conf(t, c.conf), TTL: 24 * time.Hour, Margin: time.Hour}
			q.PublicIP.IPv4 = netip.MustParseAddr("192.168.7.1")
			for _, p := range subnets(strings.Fields(c.before)...) {
				q.Before.Set(state.FamilyOf(p.Addr()), p)
			}
			all := listing(c.have)
			r, notices, err := q.Pick(now, all)
			got := pairText(r.Subnet)
			if r.Reserved() {
				got += " reserved"
			}
			if err != nil {
				got = err.Error()
				if code := exit.Of(err); code != exit.Bug {
					got = fmt.Sprintf("%d %s", code, got)
				}
			}
			if got != c.want && (err == nil || !strings.HasPrefix(got, c.want)) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if diff := cmp.Diff(c.notice, strings.Join(notices, "|")); diff != "" {
				t.Errorf("notices (-want +got):\n%s", diff)
			}
			if err != nil {
				return
			}
			if err := r.Validate(); err != nil {
				t.Errorf("the record is no good: %v", err)
			}
			all.Entries["a"] = Entry{Record: &r}
			again, _, err := q.Pick(now, all)
			if verb := change(&r, again); err != nil || verb != "" {
				t.Errorf("once more: %q, %v", verb, err)
			}
		})
	}
}

func TestPickKnown(t *testing.T) {
	q := Request{Node: "a", Conf: conf(t, plain), TTL: time.Hour, Known: subnets("10.244.0.0/24", "fd00::/64")}
	r, _, err := q.Pick(now, listing("b unreadable"))
	if err != nil || r.Subnet.IPv4.String() != "10.244.1.0/24" {
		t.Errorf("got %s, %v: the subnet of the peer's file was taken", r.Subnet.IPv4, err)
	}
}

func TestChange(t *testing.T) {
	q := Request{Node: "a", Conf: conf(t, plain), TTL: 24 * time.Hour, Margin: time.Hour, PublicIP: record("a").PublicIP}
	data := state.Published{Type: "vxlan", Data: []byte("{\"VNI\": 1,\n\"VtepMAC\": \"62:00:00:00:00:01\"}")}
	for _, c := range []struct {
		name, have, want string
		edit             func(*Request)
	}{
		{"nothing there", "", "acquire", nil},
		{"all as it should be", "a 10.244.0.0/24", "", nil},
		{"another address", "a 10.244.0.0/24", "publish", func(q *Request) { q.PublicIP.IPv4 = netip.MustParseAddr("192.168.7.9") }},
		{"data to publish", "a 10.244.0.0/24", "publish", func(q *Request) { q.Backend = data }},
		{"near its end", "a 10.244.0.0/24 59m", "renew", nil},
		{"at the margin", "a 10.244.0.0/24 60m", "renew", nil},
		{"before the margin", "a 10.244.0.0/24 61m", "", nil},
		{"expired", "a 10.244.0.0/24 -1s", "renew", nil},
		{"reserved", "a 10.244.0.0/24 reserved", "", nil},
		{"taken up", "a 10.244.0.0/24 reserved unannounced", "publish", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := q
			if c.edit != nil {
				c.edit(&q)
			}
			all := listing(c.have)
			r, _, err := q.Pick(now, all)
			if got := change(all.Entries["a"].Record, r); got != c.want || err != nil {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestReservation(t *testing.T) {
	for _, c := range []struct{ name, have, want string }{
		{"free", "b 10.244.0.0/24", "10.244.7.0/24 reserved"},
		{"its own", "a 10.244.7.0/24", "10.244.7.0/24 reserved"},
		{"it holds another", "a 10.244.8.0/24", `78 reserve 10.244.7.0/24: node "a" holds 10.244.8.0/24`},
		{"it held another", "a 10.244.8.0/24 -1h", "10.244.7.0/24 reserved"},
		{"another holds it", "b 10.244.7.0/24", `75 reserve for "a": node "b" holds the subnet`},
		{"another held it", "b 10.244.7.0/24 -1h", "10.244.7.0/24 reserved"},
		{"an unreadable one may hold it", "b unreadable 10.244.7.0/24", `75 reserve for "a": node "b" holds the subnet`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := reservation(now, "a", state.Pair[netip.Prefix]{IPv4: netip.MustParsePrefix("10.244.7.0/24")}, listing(c.have))
			got := pairText(r.Subnet)
			if r.Reserved() {
				got += " reserved"
			}
			if err != nil {
				got = fmt.Sprintf("%d %s", exit.Of(err), err)
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestClaims(t *testing.T) {
	for in, want := range map[string]string{
		`{"version":2,"subnet":{"ipv4":"10.244.3.0/24","ipv6":"fd00::/64"},"publicIP":{"ipv4":"192.168.7.1"}}`: "10.244.3.0/24 fd00::/64",
		`{"subnet":{"ipv4":"10.244.3.0/24"},"trunc`:                                                            "10.244.3.0/24",
		`"999.1.1.1/24" "10.0.0.0/99" nothing`:                                                                 "",
	} {
		var got []string
		for _, p := range claims([]byte(in)) {
			got = append(got, p.String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("claims(%s) = %s, want %s", in, got, want)
		}
	}
}
