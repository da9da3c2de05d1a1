package objects

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// open is when a file that is still open was written.
var open = time.Now().Add(time.Hour)

// quietly takes what is told for a while. Nothing may be, of a file that is open or was written less than quietFor ago.
func (f *follower) quietly(d time.Duration, written time.Time) {
	f.t.Helper()
	for end := time.After(d); ; {
		select {
		case b := <-f.batches:
			for _, e := range b {
				if time.Since(written) < quietFor && (!e.Status || len(e.Faults) > 0) {
					f.t.Errorf("told %+v of a file that is being written", e)
				}
			}
			f.take(b)
		case <-end:
			return
		}
	}
}

func (f *follower) open(name string, flag int) *os.File {
	f.t.Helper()
	file, err := os.OpenFile(filepath.Join(f.dir, name), flag|os.O_WRONLY, 0o644)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { file.Close() })
	return file
}

func (f *follower) print(file *os.File, text string) {
	f.t.Helper()
	if _, err := file.WriteString(text); err != nil {
		f.t.Fatal(err)
	}
}

// TestSlowWriteInPlace writes a file piece by piece, keeping it open: no piece is told, however long it stands so.
func TestSlowWriteInPlace(t *testing.T) {
	f := &follower{t: t, dir: t.TempDir()}
	f.write("a.yaml", onePod("x", "1")+onePod("y", "1"))
	f.write("b.yaml", onePod("z", "1"))
	f = follow(t, f.dir, 0)
	f.until("start", "Pod dev/x=1 Pod dev/y=1 Pod dev/z=1", 0)
	file := f.open("a.yaml", os.O_TRUNC)
	f.quietly(2*quietFor, open)
	f.print(file, onePod("x", "2"))
	f.quietly(2*quietFor, open)
	f.write("b.yaml", onePod("z", "2"))
	f.until("another file meanwhile", "Pod dev/x=1 Pod dev/y=1 Pod dev/z=2", 0)
	f.print(file, onePod("y", "2"))
	f.quietly(2*quietFor, open)
	file.Close()
	f.until("closed", "Pod dev/x=2 Pod dev/y=2 Pod dev/z=2", 0)
}

// TestRewriteInPlace truncates and appends with pauses, closing each time.
func TestRewriteInPlace(t *testing.T) {
	for range 10 {
		if rewrittenInPlace(t) {
			return
		}
	}
	t.Error("the machine is too slow: the file was left alone for as long as finished ones are, each time")
}

// rewrittenInPlace says whether the pauses were no longer than meant.
func rewrittenInPlace(t *testing.T) bool {
	t.Helper()
	f := &follower{t: t, dir: t.TempDir()}
	f.write("a.yaml", onePod("x", "1")+onePod("y", "1"))
	f = follow(t, f.dir, 0)
	f.until("start", "Pod dev/x=1 Pod dev/y=1", 0)
	last := time.Now()
	f.open("a.yaml", os.O_TRUNC).Close()
	for _, text := range []string{onePod("x", "2"), "# more\n", onePod("y", "2")} {
		before, written := last, time.Now()
		last = written
		file := f.open("a.yaml", os.O_APPEND)
		f.print(file, text)
		file.Close()
		if time.Since(before) >= quietFor {
			return false
		}
		f.quietly(quietFor/2, written)
	}
	f.until("written", "Pod dev/x=2 Pod dev/y=2", 0)
	f.write("a.yaml", onePod("y", "2"))
	f.until("an object taken out", "Pod dev/y=2", 0)
	return true
}

// TestNewFileStillOpen is not synced before the file is finished.
func TestNewFileStillOpen(t *testing.T) {
	f := &follower{t: t, dir: t.TempDir()}
	file := f.open("a.yaml", os.O_CREATE)
	f.print(file, onePod("x", "1"))
	f = follow(t, f.dir, 0)
	f.quietly(2*quietFor, open)
	f.print(file, onePod("y", "1"))
	file.Close()
	f.until("closed", "Pod dev/x=1 Pod dev/y=1", 0)
	if !f.synced {
		t.Error("not synced")
	}
}

// TestOpenForLong tells of a file that nobody closes, as a fault, and no longer once it is closed.
func TestOpenForLong(t *testing.T) {
	f := &follower{t: t, dir: t.TempDir()}
	f.write("a.yaml", onePod("x", "1"))
	f = follow(t, f.dir, 0)
	f.until("start", "Pod dev/x=1", 0)
	file := f.open("a.yaml", os.O_APPEND)
	f.print(file, onePod("y", "1"))
	f.until("open", "Pod dev/x=1", 1)
	file.Close()
	f.until("closed", "Pod dev/x=1 Pod dev/y=1", 0)
}

// TestRenameIsTakenAtOnce renames a file that was written this moment.
func TestRenameIsTakenAtOnce(t *testing.T) {
	f := &file{identity: identity{dev: 1, ino: 2}}
	name := filepath.Join(t.TempDir(), "a.yaml")
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	now := identify(name)
	if f.holds(name, now) {
		t.Error("another inode is held")
	}
	f.identity.dev, f.identity.ino = now.dev, now.ino
	if !f.holds(name, now) {
		t.Error("the same inode is not held")
	}
}
