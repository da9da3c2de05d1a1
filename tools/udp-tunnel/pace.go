package main

import (
	"context"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// pace lets the runtime use a second processor only while one is not enough. With one, a packet wakes a thread; with two, that
// thread wakes another one, which looks for more to do, and both packets and pods wait for it.
func pace(ctx context.Context) {
	if runtime.NumCPU() == 1 {
		return
	}
	const every = 200 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	use := 1
	runtime.GOMAXPROCS(use)
	for before := cpuTime(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := cpuTime()
		if next := processors(use, float64(now-before)/float64(every)); next != use {
			use = next
			runtime.GOMAXPROCS(use)
		}
		before = now
	}
}

// processors is how many to use after a time in which so much of one was taken.
func processors(use int, taken float64) int {
	switch {
	case taken > 0.8:
		return 2 // one for each direction
	case taken < 0.5:
		return 1
	}
	return use
}

// cpuTime is what the process has taken.
func cpuTime() time.Duration {
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
