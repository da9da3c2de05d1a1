package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
)

// defaultEnvironment is the EnvironmentFile of the systemd unit.
const defaultEnvironment = "/etc/towpath/environment"

// readEnvironment reads NAME=VALUE lines, as systemd's EnvironmentFile has them; a missing file has none. What systemd would
// join or unquote further than a pair of quotes around a value is refused, not guessed at.
func readEnvironment(path string) (map[string]string, error) {
	data, err := state.ReadFile(path, state.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		for _, quote := range []string{`"`, `'`} {
			if len(value) > 1 && strings.HasPrefix(value, quote) && strings.HasSuffix(value, quote) {
				value = value[1 : len(value)-1]
				break
			}
		}
		if name = strings.TrimSpace(name); !ok || name == "" || strings.ContainsAny(name, " \t") || strings.ContainsAny(value, `"'\`) {
			return nil, &state.Error{Path: path, Key: name, Err: fmt.Errorf("line %d: not NAME=VALUE", number), Code: exit.BadConfig}
		}
		all[name] = value
	}
	return all, nil
}
