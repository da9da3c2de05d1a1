package nstest

import (
	"bufio"
	"regexp"
	"strconv"
	"syscall"
)

var sequence = regexp.MustCompile(`bytes from .* icmp_seq=(\d+) `)

// Pinging sends 100 packets a second from the namespace until stop, once the first was answered. stop says how many there were up
// to the last that was answered, and how many of those were not. options are ping's, further ones.
func (n *Namespace) Pinging(to string, options ...string) (stop func() (sent, lost int)) {
	n.t.Helper()
	cmd := n.Command("ping", append(append([]string{"-n", "-i", "0.01"}, options...), to)...)
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		n.t.Fatal(err)
	}
	answered, last := 0, 0
	first, done := make(chan bool, 1), make(chan bool)
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			if m := sequence.FindStringSubmatch(lines.Text()); m != nil {
				seq, _ := strconv.Atoi(m[1])
				answered, last = answered+1, max(last, seq)
				select {
				case first <- true:
				default:
				}
			}
		}
	}()
	n.t.Cleanup(func() { cmd.Process.Kill() }) //nolint:errcheck // it may have ended
	select {                                   // else the signal may come before ping listens to it
	case <-first:
	case <-done:
	}
	return func() (sent, lost int) {
		cmd.Process.Signal(syscall.SIGINT) //nolint:errcheck // as above
		<-done
		cmd.Wait() //nolint:errcheck // interrupted
		return last, last - answered
	}
}
