package state

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/plan"
)

// Marshal is the canonical form of a file: JSON with sorted keys, `version` first, indented by two
// spaces, ending in a newline.
func Marshal(v any) ([]byte, error) {
	flat, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(flat))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if object, ok := tree.(map[string]any); ok && object["version"] != nil {
		version := object["version"]
		delete(object, "version")
		rest, err := marshal(object)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&out, "{\n  \"version\": %v", version)
		if len(object) > 0 {
			out.WriteByte(',')
		} else {
			out.WriteByte('\n')
		}
		out.Write(bytes.TrimPrefix(rest, []byte("{")))
		return out.Bytes(), nil
	}
	return marshal(tree)
}

func marshal(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return out.Bytes(), err
}

// Save writes v to path in canonical form, with the file's mode (see ModeOf), and says whether the file
// changed. The write is atomic (see WriteFile).
func Save(path string, v any) (changed bool, err error) {
	data, err := Marshal(v)
	if err != nil {
		return false, fmt.Errorf("write %q: %w", path, err)
	}
	return WriteFile(path, data, ModeOf(path))
}

// WriteFile makes path hold data: a temporary file in the same directory, fsync, rename. A reader
// sees the old bytes or the new ones, also after a crash at any step. The directory is made if it is
// missing. If path holds the same bytes already nothing is written and changed is false; but a file that is to
// be private and is not is written anew. Where path is a
// symbolic link the file that it leads to is replaced; a device, a FIFO or whatever else is no regular file is
// an error, and stays.
func WriteFile(path string, data []byte, mode fs.FileMode) (changed bool, err error) {
	if holds(path, data, mode) {
		return false, nil
	}
	target, err := targetOf(path)
	if err != nil {
		return false, fmt.Errorf("write %q: %w", path, err)
	}
	tmp, err := createTemp(target, mode)
	if err != nil {
		return false, fmt.Errorf("write %q: %w", path, err)
	}
	defer os.Remove(tmp.Name()) // fails after the rename, as it should
	if _, err = tmp.Write(data); err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), target)
	}
	if err != nil {
		return false, fmt.Errorf("write %q: %w", path, err)
	}
	return true, nil
}

// createTemp makes ".BASE.PID.tmp" beside path. The dot and the suffix keep it from being taken for
// a state file; the process id keeps two writers apart and lets Sweep tell a dead writer's leavings.
func createTemp(path string, mode fs.FileMode) (*os.File, error) {
	name := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.%d.tmp", filepath.Base(path), os.Getpid()))
	const flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	f, err := os.OpenFile(name, flags, mode)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		f, err = os.OpenFile(name, flags, mode)
	}
	if err != nil || !isPrivate(mode) {
		return f, err
	}
	if err := f.Chmod(mode); err != nil { // one that was there kept its own
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Remove removes path; a missing file is no error and no change. A device is nobody's output and stays.
func Remove(path string) (changed bool, err error) {
	if st, err := os.Lstat(path); err == nil && st.Mode()&fs.ModeDevice != 0 {
		return false, exit.Errorf(exit.BadInput, "remove %q: it is a device", path)
	}
	switch err := os.Remove(path); {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	default:
		return false, fmt.Errorf("remove %q: %w", path, err)
	}
}

// WriteOp is the operation that makes path hold v, or nil when it does.
func WriteOp(path string, v any) (plan.Op, error) {
	data, err := Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("write %q: %w", path, err)
	}
	return WriteBytesOp(path, data), nil
}

// WriteBytesOp is the operation that makes path hold data, or nil when it does.
func WriteBytesOp(path string, data []byte) plan.Op {
	mode := ModeOf(path)
	if holds(path, data, mode) {
		return nil
	}
	return plan.Func{Text: "write " + path, File: path, Run: func(context.Context) error {
		_, err := WriteFile(path, data, mode)
		return err
	}}
}

// RemoveOp is the operation that removes path, or nil when it is not there.
func RemoveOp(path string) plan.Op {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return plan.Func{Text: "remove " + path, Run: func(context.Context) error {
		_, err := Remove(path)
		return err
	}}
}
