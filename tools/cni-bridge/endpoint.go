package main

import (
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

func (c *call) endpointPath() string {
	return state.Dir(c.conf.RunDir).Endpoint(c.Container, c.Interface)
}

// endpoint says which pod this is, for policy-render. The names come from the runtime's CNI_ARGS.
func (c *call) endpoint() state.Endpoint {
	return state.Endpoint{
		Version: state.Version, Network: c.conf.Name, ContainerID: c.Container, Interface: c.Interface,
		Namespace: c.args["K8S_POD_NAMESPACE"], Pod: c.args["K8S_POD_NAME"], UID: c.args["K8S_POD_UID"],
		Netns: c.netns,
	}
}

func (a *addition) saveEndpoint(grants []grant, mac nl.MAC) error {
	e := a.endpoint()
	e.HostVeth, e.Bridge, e.MAC = vethName(a.holder), a.conf.bridge.Bridge, mac.String()
	for _, g := range grants {
		e.IP.Set(state.FamilyOf(g.Addr), g.Addr)
	}
	_, err := state.Save(a.endpointPath(), e)
	return err
}

// dead says of an attachment that nothing of it can live: every process and namespace of an earlier
// boot is gone; of this boot, only what has neither its namespace nor its host end any more is given
// up. An attachment that host-local made in this boot has no namespace on record and is never dead.
func (a *addition) dead(r record, h holder) bool {
	switch {
	case r.BootID == "":
		return false
	case r.BootID != a.store.bootID:
		return true
	case r.Netns == "" || exists(r.Netns):
		return false
	}
	_, there, err := a.socket.Device(vethName(h))
	return err == nil && !there
}

// loadResolvConf reads what host-local's resolvConf key names.
func loadResolvConf(path string) (types.DNS, error) {
	var dns types.DNS
	data, err := state.ReadFile(path, 64<<10)
	if err != nil {
		return dns, err
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			dns.Nameservers = append(dns.Nameservers, f[1])
		case "domain":
			dns.Domain = f[1]
		case "search":
			dns.Search = append(dns.Search, f[1:]...)
		case "options":
			dns.Options = append(dns.Options, f[1:]...)
		}
	}
	return dns, nil
}
