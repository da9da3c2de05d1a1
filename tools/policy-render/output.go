package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
)

// scriptOps writes the script to where --output says: in the place of a file, but into what is none (a device, a FIFO),
// which must stay what it is and holds nothing to compare with.
func (s *step) scriptOps(script []byte) ([]plan.Op, error) {
	path := s.options.output
	if path == "-" || s.isStdout(path) {
		_, err := s.script.Write(script)
		return nil, err
	}
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() && !st.IsDir() {
		if s.sent {
			return nil, nil
		}
		return []plan.Op{plan.Func{Text: "write " + path, Run: func(ctx context.Context) error {
			s.sent = true
			return writeInto(ctx, path, script)
		}}}, nil
	}
	if op := state.WriteBytesOp(path, script); op != nil {
		return []plan.Op{op}, nil
	}
	return nil, nil
}

// isStdout says whether path is another name of standard output, such as /dev/stdout: replacing the file behind it would
// leave whoever redirected it with the old one.
func (s *step) isStdout(path string) bool {
	out, ok := s.script.(interface{ Stat() (fs.FileInfo, error) })
	if !ok {
		return false
	}
	have, err := out.Stat()
	if err != nil {
		return false
	}
	st, err := os.Stat(path)
	return err == nil && os.SameFile(st, have)
}

// readerPeriod is how often a FIFO is asked whether somebody reads it. The kernel would wait, but not for ctx too.
const readerPeriod = 20 * time.Millisecond

// writeInto writes into what is there already. It ends with ctx, also while nobody reads.
func writeInto(ctx context.Context, path string, data []byte) error {
	f, err := openInto(ctx, path)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetWriteDeadline(time.Now()) })
	defer stop()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func openInto(ctx context.Context, path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
		if err == nil || !errors.Is(err, syscall.ENXIO) {
			return f, err
		}
		st, serr := os.Stat(path)
		if serr != nil {
			return nil, serr
		}
		if st.Mode()&fs.ModeNamedPipe == 0 {
			return nil, fmt.Errorf("%w; nothing can be written to it", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for a reader: %w", ctx.Err())
		case <-time.After(readerPeriod):
		}
	}
}
