package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/towpath/towpath/lib/exit"
)

// MaxSize is the largest file that Load reads, bytes. Every file holds one node's worth of facts.
const MaxSize = 1 << 20

// Error is a file that cannot be used. Key is the JSON path of the value at fault, empty when it is
// the file as a whole.
type Error struct {
	Path string
	Key  string
	Err  error
	Code exit.Code // BadInput unless set
}

func (e *Error) Error() string {
	if e.Key != "" {
		return fmt.Sprintf("read %q: key %q: %v", e.Path, e.Key, e.Err)
	}
	return fmt.Sprintf("read %q: %v", e.Path, e.Err)
}
func (e *Error) Unwrap() error { return e.Err }

// ExitCode is 65, or what Code says.
func (e *Error) ExitCode() exit.Code {
	if e.Code != exit.OK {
		return e.Code
	}
	return exit.BadInput
}

// Validator is a schema with rules beyond its types. Validate returns a *KeyError to name a key.
type Validator interface{ Validate() error }

// KeyError is a value that breaks a rule.
type KeyError struct {
	Key string
	Err error
}

func (e *KeyError) Error() string { return fmt.Sprintf("key %q: %v", e.Key, e.Err) }
func (e *KeyError) Unwrap() error { return e.Err }

// Load reads a file of a versioned schema. A missing file is an error that wraps fs.ErrNotExist; an
// empty, truncated, malformed, oversized or newer file is an *Error (exit status 65) that names the
// file and, where there is one, the key. Unknown fields are ignored.
func Load[T any](path string) (T, error) {
	var v, zero T
	data, err := ReadFile(path, MaxSize)
	if err != nil {
		return zero, err
	}
	var head struct {
		Version *int `json:"version"`
	}
	if err := Decode(data, &head); err != nil {
		return zero, at(path, err)
	}
	switch {
	case head.Version == nil:
		return zero, &Error{Path: path, Key: "version", Err: errors.New("missing")}
	case *head.Version > Version:
		return zero, exit.WithHint(&Error{
			Path: path, Key: "version",
			Err: fmt.Errorf("%d is newer than the %d that this program knows", *head.Version, Version),
		},
			"a newer towpath wrote this file: upgrade this program, or remove the file and run its producer again")
	case *head.Version < 1:
		return zero, &Error{Path: path, Key: "version", Err: fmt.Errorf("%d is not a version", *head.Version)}
	}
	if err := Decode(data, &v); err != nil {
		return zero, at(path, err)
	}
	if val, ok := any(&v).(Validator); ok {
		if err := val.Validate(); err != nil {
			return zero, at(path, err)
		}
	}
	return v, nil
}

func at(path string, err error) error {
	var k *KeyError
	if errors.As(err, &k) {
		return &Error{Path: path, Key: k.Key, Err: k.Err}
	}
	return &Error{Path: path, Err: err}
}

// ReadFile reads a regular file of at most limit bytes. Anything but its absence and a missing
// permission is an *Error.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("read %q: %w", path, errors.Unwrap(err))
		}
		return nil, &Error{Path: path, Err: err}
	}
	defer f.Close()
	var buf bytes.Buffer
	if st, err := f.Stat(); err == nil {
		if !st.Mode().IsRegular() {
			return nil, &Error{Path: path, Err: fmt.Errorf("not a regular file (%s)", st.Mode().Type())}
		}
		buf.Grow(int(min(st.Size(), limit)) + bytes.MinRead) // read in one go, with no larger buffer than it takes
	}
	_, err = buf.ReadFrom(io.LimitReader(f, limit+1))
	data := buf.Bytes()
	switch {
	case err != nil:
		return nil, &Error{Path: path, Err: err}
	case int64(len(data)) > limit:
		return nil, &Error{Path: path, Err: fmt.Errorf("larger than %d bytes", limit)}
	case len(bytes.TrimSpace(data)) == 0:
		return nil, &Error{Path: path, Err: errors.New("empty file")}
	}
	return data, nil
}

// Decode is json.Unmarshal with errors for people: a syntax error gives line and column, a wrong
// value gives a *KeyError with the path of the key, also where the value's own UnmarshalText refused
// it.
func Decode(data []byte, v any) error {
	err := json.Unmarshal(data, v)
	if err == nil {
		return nil
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		if syntax.Error() == "unexpected end of JSON input" {
			return errors.New("JSON ends too early: the file is truncated")
		}
		line := 1 + bytes.Count(data[:syntax.Offset], []byte("\n"))
		column := int(syntax.Offset) - (1 + bytes.LastIndexByte(data[:syntax.Offset], '\n'))
		return fmt.Errorf("line %d, column %d: %w", line, column, err)
	}
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) {
		want := typ.Type.String()
		if typ.Field == "" {
			return fmt.Errorf("%s where %s belongs", typ.Value, want)
		}
		return &KeyError{Key: typ.Field, Err: fmt.Errorf("%s where %s belongs", typ.Value, want)}
	}
	if key := locate(data, v); key != "" {
		return &KeyError{Key: key, Err: err}
	}
	return err
}
