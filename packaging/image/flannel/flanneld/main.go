// Command flanneld is what flannel's manifests start, as /opt/bin/flanneld of towpath's image. It reads flanneld's flags and its
// FLANNELD_ variables, says what it does not understand, and becomes `towpath supervise` with the same settings in TOWPATH_
// variables. So a cluster's kube-flannel.yml works with towpath's image and nothing else changed.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"syscall"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/logs"
	"github.com/towpath/towpath/lib/version"
)

// supervisor is the program that this one becomes.
const supervisor = "/usr/bin/towpath"

func main() {
	if err := run(os.Args[1:], os.Environ()); err != nil {
		os.Exit(logs.Fail(os.Stderr, "flanneld", err))
	}
}

func run(args, environ []string) error {
	t, err := translate(args, environ)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return help(os.Stdout)
	case err != nil:
		return err
	case t.version:
		fmt.Fprintln(os.Stderr, version.Version) // where flanneld prints its own
		return nil
	}
	log, err := logs.New(os.Stderr, "flanneld", "info", "text")
	if err != nil {
		return err
	}
	for _, note := range t.notes {
		log.Warn("not all is as with flanneld", "what", note)
	}
	log.Info("this is towpath in the place of flanneld", "version", version.Version, "settings", t.settings)
	if err := syscall.Exec(supervisor, []string{"towpath", "supervise"}, t.environ); err != nil {
		return exit.Errorf(exit.Bug, "execute %s: %w", supervisor, err)
	}
	return nil
}
