package main

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/tool"
	"github.com/towpath/towpath/supervisor/process"
)

// deniedFlags are those of policy-denied; what is given is passed on.
var deniedFlags = []tool.Flag{
	{Name: "pod", Usage: "only packets from or to this pod, NAMESPACE/NAME", Default: ""},
	{Name: "count", Usage: "end after so many lines; 0: do not", Default: 0},
	{Name: "group", Usage: "NFLOG group that the rules log to", Default: 100},
	{Name: "output", Usage: "text, or json: an object a line", Default: "text"},
}

// denied becomes policy-denied, so that people need to know one program only.
func denied(_ context.Context, env *tool.Env) error {
	const name = "policy-denied"
	path, err := process.Find(name)
	if err != nil {
		return exit.Errorf(exit.BadConfig, "%w", err)
	}
	args := []string{
		name, "watch", "--run-dir", string(env.RunDir), "--log-level", env.String("log-level"), "--log-format", env.String("log-format"),
		"--pod", env.String("pod"), "--count", fmt.Sprint(env.Int("count")), "--group", fmt.Sprint(env.Int("group")), "--output", env.String("output"),
	}
	return fmt.Errorf("start %q: %w", path, unix.Exec(path, args, os.Environ()))
}
