package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/tool"
)

// snap is how much of a packet is copied: the headers of IPv6 with a few extensions, and ports.
const snap = 256

func watch(ctx context.Context, env *tool.Env) error {
	group, count, pod, format := env.Int("group"), env.Int("count"), env.String("pod"), env.String("output")
	namespace, name, slash := strings.Cut(pod, "/")
	switch {
	case group < 0 || group > math.MaxUint16:
		return exit.Errorf(exit.Usage, "--group %d: use 0 to %d", group, math.MaxUint16)
	case count < 0:
		return exit.Errorf(exit.Usage, "--count %d: use 0 or more", count)
	case pod != "" && (!slash || namespace == "" || name == "" || strings.Contains(name, "/")):
		return exit.Errorf(exit.Usage, "--pod %q: use NAMESPACE/NAME", pod)
	case format != "text" && format != "json":
		return exit.Errorf(exit.Usage, "--output %q: use text or json", format)
	}
	packets, err := nl.WatchLog(ctx, uint16(group), snap)
	if err != nil {
		return err
	}
	env.Log.Info("waiting for denied packets", "group", group)
	if _, err := os.Stat(env.RunDir.PolicyLoaded()); errors.Is(err, fs.ErrNotExist) {
		env.Log.Warn("policy-load has loaded no policies: nothing will be denied", "path", env.RunDir.PolicyLoaded(),
			"hint", "see towpath status; a node without objects is one without NetworkPolicy")
	}
	env.Ready()
	who := &names{dir: env.RunDir}
	for printed := 0; count == 0 || printed < count; {
		var l nl.LoggedPacket
		select {
		case <-ctx.Done():
			return nil
		case l = <-packets:
		}
		if l.Lost {
			env.Log.Warn("packets came faster than they were read: some are not shown")
			continue
		}
		d, ok := judge(l, who, nl.DeviceName)
		if !ok {
			env.Log.Debug("not of a policy", "prefix", l.Prefix)
			continue
		}
		if !d.concerns(pod) {
			continue
		}
		text := d.String()
		if format == "json" {
			data, err := json.Marshal(d)
			if err != nil {
				return err
			}
			text = string(data)
		}
		if _, err := fmt.Fprintln(env.Stdout, text); errors.Is(err, unix.EPIPE) {
			return nil // the reader has seen enough
		} else if err != nil {
			return fmt.Errorf("print denied packet: %w", err)
		}
		printed++
	}
	return nil
}
