// Command image makes towpath's OCI image without a daemon and without a shell in it: it reads the programs that
// `make image` built for an architecture, the stage files, and Debian's packages of nft and iptables (fetched by
// apt-get for that architecture, not installed), takes out of these exactly the files that the programs need, and
// writes one archive that `ctr images import` and `docker load` take. The same inputs give the same bytes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return
	}
	fmt.Fprintln(os.Stderr, "image:", err)
	os.Exit(1)
}

func run(ctx context.Context, args []string) error {
	var o options
	var arches string
	f := flag.NewFlagSet("image", flag.ContinueOnError)
	f.StringVar(&arches, "arch", "", "architectures in Go's names, with commas between; several make an index")
	f.StringVar(&o.programs, "programs", "bin/image", "`directory` that holds a directory of programs for each architecture")
	f.StringVar(&o.cni, "cni", "cni-bridge,portmap,bandwidth,loopback", "`names` of the programs that are CNI plugins")
	f.StringVar(&o.share, "share", "packaging", "`directory` of stages.d and image/uninstall.d")
	f.StringVar(&o.cache, "cache", ".cache/image", "`directory` for Debian's packages")
	f.StringVar(&o.output, "output", "bin/towpath-image.tar", "the archive, a `file`")
	f.StringVar(&o.name, "name", "localhost/towpath:devel", "the image's `name`")
	f.StringVar(&o.version, "version", "devel", "what the image's label says")
	if err := f.Parse(args); err != nil {
		return err
	}
	if arches == "" || f.NArg() > 0 {
		return errors.New("usage: image --arch ARCH[,ARCH]… [flags]; see image --help")
	}
	o.arches = strings.Split(arches, ",")
	return o.make(ctx)
}
