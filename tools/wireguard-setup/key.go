package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
)

// secret is a private or pre-shared key. However it is printed, it is not told.
type secret wgtypes.Key

const hidden = "(hidden)"

func (secret) String() string { return hidden }

// Format is for every verb of fmt.
func (secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalJSON keeps it out of JSON as well.
func (s secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

func (s secret) key() *wgtypes.Key { return (*wgtypes.Key)(&s) }

// public is what the other nodes know this one by.
func (s secret) public() wgtypes.Key { return s.key().PublicKey() }

const keyMode fs.FileMode = 0o600

// maxKey is the largest file that can be a key: 44 characters and some white space.
const maxKey = 128

// keyFile is where this node's private key is.
type keyFile struct {
	path    string
	flannel string
	fresh   secret // one that was made and may not be written yet
}

// read returns the node's key and what has to be done to the file. Where the file does not exist, the key is the one
// that a device of ours has (which the other nodes know), else flannel's, else a new one.
func (k *keyFile) read(device secret) (secret, []plan.Op, error) {
	key, err := readKey(k.path)
	switch {
	case err == nil:
		return key, k.protect(), nil
	case !errors.Is(err, fs.ErrNotExist):
		return secret{}, nil, exit.WithHint(err, "put the key back that the other nodes know, or remove the file: a new key is made then")
	}
	text := "write " + k.path
	switch {
	case device != secret{}:
		key = device
	default:
		if key, err = readKey(k.flannel); err == nil {
			text += " from " + k.flannel
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return secret{}, nil, exit.WithHint(err, "flannel made it: remove it, or name another with --flannel-key-file")
		}
		if k.fresh == (secret{}) {
			made, err := wgtypes.GeneratePrivateKey()
			if err != nil {
				return secret{}, nil, fmt.Errorf("make a private key: %w", err)
			}
			k.fresh = secret(made)
		}
		key = k.fresh
	}
	return key, []plan.Op{plan.Func{Text: text, Run: func(context.Context) error {
		_, err := state.WriteFile(k.path, []byte(key.key().String()+"\n"), keyMode)
		return err
	}}}, nil
}

// protect takes everybody else's rights to the file away.
func (k *keyFile) protect() []plan.Op {
	if st, err := os.Stat(k.path); err != nil || st.Mode().Perm()&0o077 == 0 {
		return nil
	}
	return []plan.Op{plan.Func{Text: fmt.Sprintf("chmod %04o %s", keyMode, k.path), Run: func(context.Context) error { return os.Chmod(k.path, keyMode) }}}
}

// readKey reads a file as wg genkey writes it. No error repeats what is in the file.
func readKey(path string) (secret, error) {
	text, err := state.ReadFile(path, maxKey)
	if err != nil {
		return secret{}, err
	}
	key, err := wgtypes.ParseKey(strings.TrimSpace(string(text)))
	if err != nil || key == (wgtypes.Key{}) {
		return secret{}, &state.Error{Path: path, Err: errors.New("not a private key as wg genkey prints it")}
	}
	// As Curve25519 uses it, and as WireGuard gives it back.
	key[0] &= 248
	key[31] = key[31]&127 | 64
	return secret(key), nil
}
