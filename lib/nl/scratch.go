package nl

import "golang.org/x/sys/unix"

// Scratch runs f on a thread in a new, empty network namespace, which ends with it: what the kernel makes of a text can be
// looked at there. f must not start goroutines that count on the namespace; programs that it runs are in it.
func Scratch(f func() error) error {
	return onThread(func() error { return kernelError("make a network namespace", unix.Unshare(unix.CLONE_NEWNET)) }, f)
}
