package keep

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Ready tells the supervisor, or systemd, that the program's outputs stand. Nobody listening is no
// error.
func Ready() { tell(true, "") }

// Status tells the supervisor in one line what the program is doing.
func Status(format string, args ...any) {
	tell(false, "STATUS="+strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " "))
}

// A supervisor that does not read, being stopped or too busy, has its socket full after some ten messages. The program goes on
// then: it waits once, and what it has to say waits for the supervisor.
const (
	patience = 200 * time.Millisecond
	again    = 250 * time.Millisecond
)

// unsaid is what the supervisor has not been told yet, beside the descriptors that it does not have.
var unsaid struct {
	sync.Mutex
	ready    bool
	status   string // the last one: what was before it is of no interest
	retrying bool
}

func tell(ready bool, status string) {
	unsaid.Lock()
	defer unsaid.Unlock()
	unsaid.ready = unsaid.ready || ready
	if status != "" {
		unsaid.status = status
	}
	if !unsaid.retrying && !say(patience) {
		unsaid.retrying = true
		go retry()
	}
}

func retry() {
	for {
		<-time.After(again)
		unsaid.Lock()
		if say(time.Millisecond) {
			unsaid.retrying = false
			unsaid.Unlock()
			return
		}
		unsaid.Unlock()
	}
}

// say sends what is unsaid, and says whether that is gone: to the supervisor, or because there is none.
func say(limit time.Duration) bool {
	if !handAgain(limit) {
		return false
	}
	if unsaid.ready && !send(daemon.SdNotifyReady, limit) {
		return false
	}
	unsaid.ready = false
	if unsaid.status != "" && !send(unsaid.status, limit) {
		return false
	}
	unsaid.status = ""
	return true
}

// send sends one message; false: the supervisor does not read.
func send(message string, limit time.Duration) bool {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return true
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return true
	}
	defer c.Close() //nolint:errcheck // it was sent, or it was not
	if err := c.SetWriteDeadline(time.Now().Add(limit)); err != nil {
		return true
	}
	_, err = c.Write([]byte(message))
	return !errors.Is(err, os.ErrDeadlineExceeded)
}
