package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
	towpath "github.com/towpath/towpath/lib/version"
)

// specVersions are the versions of the CNI specification that the plugin speaks.
var specVersions = version.PluginSupports("0.3.1", "0.4.0", "1.0.0", "1.1.0")

// plugin answers the container runtime: command and names in the environment, configuration on
// standard input, result or error as JSON on standard output. It returns the exit status.
func plugin() int {
	// There is nothing to do side by side: waking further threads is a twentieth of a call's CPU time.
	runtime.GOMAXPROCS(1)
	funcs := skel.CNIFuncs{
		Add: run(add), Del: run(del), Check: run(check), Status: run(status), GC: run(gc),
	}
	err := skel.PluginMainFuncsWithError(funcs, specVersions, "cni-bridge "+towpath.Version)
	if err == nil {
		return 0
	}
	if perr := err.Print(); perr != nil {
		fmt.Fprintln(os.Stderr, "cni-bridge:", err)
	}
	return 1
}

// call is one call of the plugin.
type call struct {
	holder
	conf  *netConf
	netns string // path; empty where the runtime has none any more
	args  map[string]string
	stdin []byte
}

// run reads the configuration and gives what goes wrong its code of the CNI specification.
func run(do func(*call) error) func(*skel.CmdArgs) error {
	return func(a *skel.CmdArgs) error {
		args, err := parseArgs(a.Args)
		if err != nil {
			return err
		}
		conf, err := parseNetConf(a.StdinData, args)
		if err != nil {
			return err
		}
		return cniError(do(&call{holder: holder{a.ContainerID, a.IfName}, conf: conf, netns: a.Netns, args: args, stdin: a.StdinData}))
	}
}

// parseArgs reads CNI_ARGS: KEY=VALUE pairs with semicolons between. Keys that mean nothing here are
// for other plugins of the chain, whether or not IgnoreUnknown says so.
func parseArgs(text string) (map[string]string, error) {
	args := map[string]string{}
	for pair := range strings.SplitSeq(text, ";") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok && pair != "" {
			return nil, types.NewError(types.ErrInvalidEnvironmentVariables, fmt.Sprintf("CNI_ARGS: %q is not KEY=VALUE", pair), "")
		}
		args[key] = value
	}
	return args, nil
}

// cniError maps an error to the codes of the specification; hints become the details.
func cniError(err error) error {
	var done *types.Error
	if err == nil || errors.As(err, &done) {
		return err
	}
	var key *state.KeyError
	code := types.ErrInternal
	switch {
	case errors.As(err, &key):
		code = types.ErrInvalidNetworkConfig
	case errors.Is(err, nl.ErrNoNetns):
		code = types.ErrInvalidNetNS
	case exit.Of(err) == exit.BadConfig:
		code = types.ErrInvalidNetworkConfig
	case exit.Of(err) == exit.BadInput:
		code = types.ErrDecodingFailure
	case exit.Of(err) == exit.TryAgain && !errors.Is(err, fs.ErrNotExist):
		code = types.ErrTryAgainLater
	}
	return types.NewError(code, err.Error(), strings.Join(exit.Hints(err), "; "))
}

// open prepares the network's addresses in use.
func (c *call) open() (*store, error) { return openStore(c.conf.ipam.DataDir, c.conf.Name) }
