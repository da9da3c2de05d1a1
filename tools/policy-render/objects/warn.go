package objects

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/towpath/towpath/lib/exit"
)

// Once passes each warning on once, so that a file that is read again does not repeat its own.
func Once(to func(Place, error)) func(Place, error) {
	if to == nil {
		return nil
	}
	var mu sync.Mutex
	seen := map[string]struct{}{}
	return func(p Place, err error) {
		mu.Lock()
		defer mu.Unlock()
		key := fmt.Sprint(p.File, "\n", err)
		if _, ok := seen[key]; ok {
			return
		}
		if len(seen) == 10_000 { // enough is remembered
			clear(seen)
		}
		seen[key] = struct{}{}
		to(p, err)
	}
}

func (o *Options) warn(at Place, err error) {
	if o.Warn != nil {
		o.Warn(at, err)
	}
}

// foreign is a warning of an object that is skipped though its kind looks like one that is read; else nil.
func foreign(apiVersion, kind string) error {
	want := ""
	switch {
	case strings.EqualFold(kind, Pod.String()):
		want = "apiVersion: v1 and kind: Pod"
	case strings.EqualFold(kind, Namespace.String()):
		want = "apiVersion: v1 and kind: Namespace"
	case strings.HasSuffix(strings.ToLower(kind), strings.ToLower(NetworkPolicy.String())):
		want = "apiVersion: networking.k8s.io/v1 and kind: NetworkPolicy"
	default:
		return nil
	}
	return exit.WithHint(fmt.Errorf("%s of %q is skipped: nothing of it is in force", kind, apiVersion), "only %s is read", want)
}

// useless says why an address cannot be a pod's, else "".
func useless(a netip.Addr) string {
	switch {
	case a.Zone() != "":
		return "has a zone"
	case a.IsUnspecified():
		return "is unspecified"
	case a.IsLoopback():
		return "is the pod's own loopback"
	case a.IsMulticast():
		return "is a multicast group"
	case a.IsLinkLocalUnicast():
		return "is link-local"
	}
	return ""
}

// podAddrs leaves out what cannot be a pod's address, with a warning: one odd pod is no reason to leave a file unread.
func (r *reader) podAddrs(t *thing, at Place) ([]netip.Addr, error) {
	all, err := addrs("status.podIP", t.Status.PodIP, t.Status.PodIPs)
	out := all[:0]
	for _, a := range all {
		if why := useless(a); why != "" {
			r.warn(at, exit.WithHint(fmt.Errorf("%s: key \"status.podIPs\": %s %s and is left out", t.name(Pod), a, why), "correct the pod's status"))
			continue
		}
		out = append(out, a)
	}
	return out, err
}

// warnUnread warns of a directory that has files, but none that is read.
func (o *Options) warnUnread(dir string, files []string) {
	if len(files) > 0 {
		return
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			o.warn(Place{File: dir, Item: -1}, exit.WithHint(fmt.Errorf("none of the files is read, such as %q", e.Name()), "name them *.yaml, *.yml or *.json"))
			return
		}
	}
}

// isDangling says whether a path is a symbolic link that points at nothing.
func isDangling(path string) bool {
	st, err := os.Lstat(path)
	if err != nil || st.Mode().Type() != os.ModeSymlink {
		return false
	}
	_, err = os.Stat(path)
	return errors.Is(err, os.ErrNotExist)
}

// isYAMLFile says whether a file's name promises YAML. JSON is YAML too, and flow style begins as JSON does.
func isYAMLFile(name string) bool {
	ext := filepath.Ext(name)
	return ext == ".yaml" || ext == ".yml"
}
