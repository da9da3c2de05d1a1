package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestHealth asks as a kubelet does: by Go's own HTTP client.
func TestHealth(t *testing.T) {
	path := filepath.Join(t.TempDir(), "health")
	h, err := serveHealth("unix:"+path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	expect := func(method, what string, status int, body string) {
		t.Helper()
		r, err := http.NewRequest(method, "http://health"+what, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != status || string(text) != body {
			t.Errorf("%s %s: %d %q, %v, want %d %q", method, what, answer.StatusCode, text, err, status, body)
		}
	}
	expect("GET", "/healthz", 200, "starting\n")
	expect("GET", "/readyz", 503, "starting\n")
	h.say("2 of 2 stages at work", true)
	expect("GET", "/readyz", 200, "2 of 2 stages at work\n")
	expect("GET", "/readyz?verbose", 200, "2 of 2 stages at work\n")
	expect("HEAD", "/readyz", 200, "")
	h.fault(errors.New("a.toml: no\nsense"))
	expect("GET", "/readyz", 503, "2 of 2 stages at work; stage files at fault: a.toml: no sense\n")
	expect("GET", "/healthz", 200, "2 of 2 stages at work\n")
	h.fault(nil)
	h.say("1 of 2 stages at work: a failing", false)
	expect("GET", "/readyz", 503, "1 of 2 stages at work: a failing\n")
	expect("GET", "/", 404, "use /healthz or /readyz\n")
	expect("POST", "/readyz", 405, "use GET\n")
	expect("GET", "/healthz", 200, "1 of 2 stages at work: a failing\n")
}

// TestHealthSilent: a loop that hangs is neither ready nor alive.
func TestHealthSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &health{last: time.Now()}
		h.say("all is well", true)
		<-time.After(healthLost)
		if line, ok := h.ready(); !ok {
			t.Errorf("not ready after %s: %s", healthLost, line)
		}
		<-time.After(time.Second)
		for _, ask := range []func() (string, bool){h.alive, h.ready} {
			if line, ok := ask(); ok || line != "no sign of life for 1m1s" {
				t.Errorf("%q, %v", line, ok)
			}
		}
		h.beat()
		if line, ok := h.ready(); !ok || line != "all is well" {
			t.Errorf("after a beat: %q, %v", line, ok)
		}
	})
}

// TestHealthIsOff: without an address nothing listens, and the loop need not beat for it.
func TestHealthIsOff(t *testing.T) {
	h, err := serveHealth("", nil)
	if h != nil || err != nil {
		t.Fatal(h, err)
	}
	h.beat()
	h.say("", true)
	h.fault(nil)
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if every := beatEvery(0, h); every != 0 {
		t.Errorf("beats every %s for nobody", every)
	}
	if every := beatEvery(time.Hour, &health{}); every != healthBeat {
		t.Errorf("beats every %s", every)
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
	f.Add("\r\n\r\n")
	f.Add("GET /" + strings.Repeat("a", 9000))
	f.Fuzz(func(t *testing.T, text string) {
		first, err := readRequest(strings.NewReader(text))
		if err != nil {
			return
		}
		if first == "" || strings.Contains(first, "\n") || !strings.Contains(text, "\n") {
			t.Errorf("%q: first line %q", text, first)
		}
		answer := string((&health{last: time.Now()}).answer(first))
		if !strings.HasPrefix(answer, "HTTP/1.1 ") || strings.Count(answer, "\r\n\r\n") != 1 {
			t.Errorf("%q: answer %q", first, answer)
		}
	})
}
