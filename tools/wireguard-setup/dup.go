package main

import "golang.org/x/sys/unix"

// dup is a second descriptor of an open file, closed when another program is executed.
func dup(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0) }
