package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/towpath/towpath/lib/exit"
)

// What a probe is answered. A kubelet asks every few seconds, so nothing is executed or read for it: the loop that
// does the work leaves word here whenever something changes, and a beat every few seconds.
const (
	healthBeat = 5 * time.Second
	// healthLost is how long the loop may be silent: it writes files, and a disk may be slow.
	healthLost = 60 * time.Second
	// healthPatience is how long a probe may take for its question, and healthCrowd how many may ask at once.
	healthPatience = 5 * time.Second
	healthCrowd    = 16
)

// health is what is known of the supervisor. A nil one takes everything and keeps nothing.
type health struct {
	listener net.Listener
	crowd    chan struct{}

	mu    sync.Mutex
	last  time.Time // of the loop's last sign of life
	line  string
	fine  bool
	files error // why the stage files cannot be read
}

// serveHealth answers on address; with none, it does nothing and returns nil.
func serveHealth(address string, log *slog.Logger) (*health, error) {
	if address == "" {
		return nil, nil //nolint:nilnil // see health
	}
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		return nil, exit.WithHint(exit.Errorf(exit.BadConfig, "serve --health: %w", err), "name a free address, such as 127.0.0.1:9879")
	}
	h := &health{listener: listener, crowd: make(chan struct{}, healthCrowd), last: time.Now(), line: "starting"}
	go h.serve(log)
	return h, nil
}

// serve speaks as much HTTP as probes do. Package net/http would be half of this program's size and 5 MiB of its memory.
func (h *health) serve(log *slog.Logger) {
	for {
		conn, err := h.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // out of files: the next probe will tell
			log.Debug("cannot take a probe", "err", err)
			<-time.After(time.Second)
			continue
		}
		h.crowd <- struct{}{}
		go func() {
			defer func() { <-h.crowd }()
			defer conn.Close() //nolint:errcheck // the answer is written, or nobody waits for it
			if err := conn.SetDeadline(time.Now().Add(healthPatience)); err != nil {
				return
			}
			request, err := readRequest(conn)
			if err != nil {
				return // no HTTP: no answer
			}
			conn.Write(h.answer(request)) //nolint:errcheck // the other end may have gone
		}()
	}
}

// readRequest reads a request up to the empty line that ends its headers, and returns its first line. What a probe
// may send is bounded.
func readRequest(from io.Reader) (string, error) {
	lines := bufio.NewScanner(io.LimitReader(from, 8<<10))
	first := ""
	for lines.Scan() {
		switch text := lines.Text(); {
		case text == "" && first != "":
			return first, nil
		case first == "":
			first = text
		}
	}
	return "", errors.Join(lines.Err(), io.ErrUnexpectedEOF)
}

// answer is the answer to a request, such as "GET /readyz HTTP/1.1".
func (h *health) answer(request string) []byte {
	words := strings.Fields(request)
	if len(words) != 3 || !strings.HasPrefix(words[2], "HTTP/1.") {
		return respond("400 Bad Request", "this is no request of HTTP/1\n", true)
	}
	method := words[0]
	if method != "GET" && method != "HEAD" {
		return respond("405 Method Not Allowed", "use GET\n", true)
	}
	path, _, _ := strings.Cut(words[1], "?")
	ask := map[string]func() (string, bool){"/healthz": h.alive, "/readyz": h.ready}[path]
	if ask == nil {
		return respond("404 Not Found", "use /healthz or /readyz\n", method == "GET")
	}
	line, ok := ask()
	status := "200 OK"
	if !ok {
		status = "503 Service Unavailable"
	}
	return respond(status, line+"\n", method == "GET")
}

func respond(status, text string, body bool) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", status, len(text))
	if body {
		b.WriteString(text)
	}
	return b.Bytes()
}

// Close ends the listening.
func (h *health) Close() error {
	if h == nil {
		return nil
	}
	return h.listener.Close()
}

func (h *health) beat() { h.note(func() {}) }

func (h *health) say(line string, fine bool) { h.note(func() { h.line, h.fine = line, fine }) }

func (h *health) fault(err error) { h.note(func() { h.files = err }) }

func (h *health) note(what func()) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = time.Now()
	what()
}

// alive says whether the loop that does the work is at it.
func (h *health) alive() (string, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if silent := time.Since(h.last); silent > healthLost {
		return fmt.Sprintf("no sign of life for %s", silent.Round(time.Second)), false
	}
	return h.line, true
}

// ready says whether every stage that has something to do on this node is at work, and none says that it fails.
func (h *health) ready() (string, bool) {
	if line, ok := h.alive(); !ok {
		return line, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.files != nil {
		return fmt.Sprintf("%s; stage files at fault: %s", h.line, strings.ReplaceAll(h.files.Error(), "\n", " ")), false
	}
	return h.line, h.fine
}

// beatEvery is how often the loop is to give a sign of life: twice as often as systemd wants, and often enough for
// health; 0: nobody listens.
func beatEvery(watchdog time.Duration, h *health) time.Duration {
	switch every := watchdog / 2; {
	case h == nil:
		return every
	case every > 0:
		return min(every, healthBeat)
	}
	return healthBeat
}
