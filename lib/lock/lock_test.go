package lock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/exit"
)

func TestHeld(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock", "a")
	if _, held, err := Held(path); held || err != nil {
		t.Errorf("before there is a file: %v, %v", held, err)
	}
	l, err := Try(path, "a starting")
	if err != nil {
		t.Fatal(err)
	}
	if holder, held, err := Held(path); !held || err != nil || holder != fmt.Sprintf("%d a starting", os.Getpid()) {
		t.Errorf("%q, %v, %v", holder, held, err)
	}
	if err := l.Say("a"); err != nil {
		t.Fatal(err)
	}
	if holder, _, _ := Held(path); holder != fmt.Sprintf("%d a", os.Getpid()) {
		t.Errorf("%q", holder)
	}
	var other *HeldError
	if _, err := Try(path, "b"); !errors.As(err, &other) || exit.Of(err) != exit.TryAgain {
		t.Errorf("taken twice: %v", err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	if _, held, err := Held(path); held || err != nil {
		t.Errorf("after release: %v, %v", held, err)
	}
}

// TestHeldTurnsNobodyAway: those who look all the time do not keep one who waits from the lock.
func TestHeldTurnsNobodyAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	looking, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for looking.Err() == nil {
			if _, _, err := Held(path); err != nil {
				t.Error(err)
			}
		}
	}()
	for range 50 {
		l, err := Wait(ctx, path, "a")
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Release(); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	<-done
}
