package nl

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Scratch runs f on a thread in a new, empty network namespace, which ends with it: what the kernel makes of a text can be
// looked at there. f must not start goroutines that count on the namespace; programs that it runs are in it.
func Scratch(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- kernelError("make a network namespace", err)
			return
		}
		done <- f()
	}()
	return <-done
}
