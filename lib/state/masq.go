package state

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Masq is the path of masq.json.
func (d Dir) Masq() string { return d.path("masq.json") }

// Validate checks what masq-sync relies on when it writes the values back: that no name leads out of
// the network's parameters.
func (m *Masq) Validate() error {
	for i, s := range m.Sysctls {
		key := fmt.Sprintf("sysctls.%d", i)
		for name, value := range s.Also {
			if err := checkSysctl(name, value); err != nil {
				return &KeyError{Key: key + ".also", Err: err}
			}
		}
		for _, value := range []string{s.Was, s.Set} {
			if err := checkSysctl(s.Name, value); err != nil {
				return &KeyError{Key: key, Err: err}
			}
		}
	}
	return nil
}

func checkSysctl(name, value string) error {
	if !strings.HasPrefix(name, "net/") || filepath.Clean(name) != name {
		return fmt.Errorf("%q is no network parameter's path below /proc/sys", name)
	}
	if value == "" || strings.ContainsAny(value, "\n\x00") {
		return fmt.Errorf("%q is no value of %s", value, name)
	}
	return nil
}
