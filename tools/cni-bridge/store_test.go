package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var (
	never = func(record, holder) bool { return false }
	sets4 = []spanSet{{wholeSpan(netip.MustParsePrefix("10.0.0.0/28"), netip.MustParseAddr("10.0.0.1"))}}
)

func newStore(t testing.TB) *store {
	t.Helper()
	s, err := openStore(t.TempDir(), "net")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *store) give(t testing.TB, id string) string {
	t.Helper()
	a, err := s.attach(holder{id, "eth0"})
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	grants, err := a.reserve(sets4, nil, "/run/netns/"+id, never)
	if err != nil {
		t.Fatalf("%s: %v", id, err)
	}
	return grants[0].Addr.String()
}

func (s *store) takeBack(t testing.TB, id string) bool {
	t.Helper()
	a, err := s.lookUp(holder{id, "eth0"}, unix.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	if a == nil {
		return false
	}
	defer a.close()
	if err := a.releaseAll(); err != nil {
		t.Fatal(err)
	}
	return true
}

// TestStoreGoesRound: an address is given again only after all the others.
func TestStoreGoesRound(t *testing.T) {
	s := newStore(t)
	var order []string
	for i := range 26 {
		order = append(order, s.give(t, fmt.Sprint(i)))
		if !s.takeBack(t, fmt.Sprint(i)) {
			t.Fatal("it was not known")
		}
	}
	if first := order[:13]; !slices.Equal(first, order[13:]) || slices.Contains(first, "10.0.0.1") || slices.Contains(first, "10.0.0.15") ||
		len(slices.Compact(slices.Sorted(slices.Values(first)))) != 13 {
		t.Errorf("order: %v", order)
	}
}

// TestStoreReadsNothingOfOthers: with the index up to date, no reservation of another is read; what
// cannot be read at all shows it.
func TestStoreReadsNothingOfOthers(t *testing.T) {
	s := newStore(t)
	for i := range 5 {
		s.give(t, fmt.Sprint(i))
	}
	scans := 0
	scan := func() {
		if !s.current() {
			scans++
		}
	}
	for i := range 5 {
		scan()
		s.give(t, fmt.Sprint("again", i))
		scan()
		s.takeBack(t, fmt.Sprint("again", i))
		scan()
		s.takeBack(t, fmt.Sprint("unknown", i))
	}
	if scans > 0 {
		t.Errorf("the index was out of date %d times", scans)
	}
	if err := os.WriteFile(s.path(netip.MustParseAddr("10.0.0.14")), []byte("foreign\r\neth0"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s.current() {
		t.Error("a reservation by another program was not noticed")
	}
	if !s.takeBack(t, "foreign") {
		t.Error("a reservation by another program is not in the index")
	}
}

// TestStoreSurvivesKills stops a reservation between any two of its steps, as SIGKILL would, and
// looks at what a retry and another container get.
func TestStoreSurvivesKills(t *testing.T) {
	first := netip.MustParseAddr("10.0.0.2")
	h := holder{"killed", "eth0"}
	for step, leave := range []func(s *store, a *attachment) error{
		func(*store, *attachment) error { return nil }, // the index file alone, empty
		func(_ *store, a *attachment) error { // torn
			_, err := a.file.WriteString(`{"bootID":"x","ip`)
			return err
		},
		func(s *store, a *attachment) error {
			return a.write(record{BootID: s.bootID, IPs: []netip.Addr{first}})
		},
		func(s *store, a *attachment) error {
			return errors.Join(a.write(record{BootID: s.bootID, IPs: []netip.Addr{first}}), os.WriteFile(s.path(first), nil, 0o600))
		},
		func(s *store, a *attachment) error {
			return errors.Join(a.write(record{BootID: s.bootID, IPs: []netip.Addr{first}}), s.take(h, first))
		},
	} {
		t.Run(fmt.Sprint("step ", step), func(t *testing.T) {
			for _, retried := range []bool{true, false} {
				s := newStore(t)
				s.give(t, "before")
				s.takeBack(t, "before")
				os.Remove(s.lastPath(0)) // so that the search begins with the address in question
				a, err := s.attach(h)
				if err != nil {
					t.Fatal(err)
				}
				if err := leave(s, a); err != nil {
					t.Fatal(err)
				}
				a.close()
				if retried {
					if got := s.give(t, "killed"); got != first.String() {
						t.Errorf("the retry got %s", got)
					}
				}
				other := s.give(t, "other")
				if retried && other == first.String() {
					t.Error("the address was given twice")
				}
				s.takeBack(t, "killed")
				s.takeBack(t, "other")
				names, _ := readNames(s.dir)
				for _, n := range names {
					if _, err := netip.ParseAddr(n); err == nil {
						t.Errorf("leaked: %s (retried %t)", n, retried)
					}
				}
			}
		})
	}
}

func TestStoreFull(t *testing.T) {
	s := newStore(t)
	for i := range 13 {
		s.give(t, fmt.Sprint(i))
	}
	a, err := s.attach(holder{"late", "eth0"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.reserve(sets4, nil, "", never)
	a.close()
	if err == nil || !strings.Contains(err.Error(), "no free address in 10.0.0.0/28: all 13 are in use") {
		t.Errorf("%v", err)
	}
	a, err = s.attach(holder{"late", "eth0"})
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	busy, err := s.attach(holder{"3", "eth0"})
	if err != nil {
		t.Fatal(err)
	}
	defer busy.close()
	grants, err := a.reserve(sets4, nil, "", func(_ record, h holder) bool { return h.Container == "3" || h.Container == "7" })
	if err != nil || grants[0].Addr.String() != "10.0.0.9" {
		t.Errorf("of the dead, 3 is being worked on and 7 is not: %v %v", grants, err)
	}
	if data, _ := os.ReadFile(filepath.Join(s.dir, "10.0.0.5")); string(data) != "3\r\neth0" {
		t.Errorf("the address of who is being worked on was taken: %q", data)
	}
}

func BenchmarkReserve(b *testing.B) {
	for _, used := range []int{0, 4000} {
		b.Run(fmt.Sprint("used=", used), func(b *testing.B) {
			s := newStore(b)
			sets := []spanSet{{wholeSpan(netip.MustParsePrefix("10.0.0.0/16"), netip.MustParseAddr("10.0.0.1"))}}
			for i := range used {
				a, err := s.attach(holder{fmt.Sprint("u", i), "eth0"})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := a.reserve(sets, nil, "", never); err != nil {
					b.Fatal(err)
				}
				a.close()
			}
			for b.Loop() {
				a, err := s.attach(holder{"x", "eth0"})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := a.reserve(sets, nil, "", never); err != nil {
					b.Fatal(err)
				}
				if err := a.releaseAll(); err != nil {
					b.Fatal(err)
				}
				a.close()
			}
		})
	}
}
