// Program wireguard-setup reads wireguard.json (what subnet-lease decided) and peers/, and makes the encrypted tunnel between
// the nodes: the devices flannel-wg and flannel-wg-v6, compatible with flannel's, with every other node as a peer. It writes
// link.json, which says to the others which device it is, what MTU pods must have and what to publish. Where the kernel has no
// WireGuard, watch carries the packets itself. It exists as a program of its own so that the node's private key is in one
// place, and the tunnel can be looked at, made, repaired and removed by itself.
package main

import (
	"cmp"
	"os"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/sysctl"
	"github.com/towpath/towpath/lib/tool"
)

func main() { tool.Main(program) }

var program = tool.Program{
	Name:    "wireguard-setup",
	Summary: "make the WireGuard tunnel between the nodes",
	Flags: []tool.Flag{
		{Name: "key-file", Usage: "file of this node's private key, made once", Default: "/var/lib/towpath/wireguard.key"},
		{
			Name: "flannel-key-file", Usage: "file of the key that flannel made, taken over where --key-file does not exist; WIREGUARD_KEY_FILE is flannel's variable for it",
			Default: cmp.Or(os.Getenv("WIREGUARD_KEY_FILE"), "/run/flannel/wgkey"),
		},
		{Name: "implementation", Usage: "auto, kernel or userspace: who encrypts; auto is the kernel where it can", Default: auto},
		{Name: "take-over", Usage: "replace a device that has the name and is not towpath's", Default: false},
		{Name: "remove-key", Usage: "with down: remove the private key as well", Default: false},
		{Name: "sysctl-root", Usage: sysctl.FlagUsage, Default: sysctl.Default},
	},
	Open: open,
}

func open(env *tool.Env) (tool.Step, error) {
	sysctl.Root = env.String("sysctl-root")
	kind, why, err := choose(env.String("implementation"))
	if err != nil {
		return nil, err
	}
	conn, err := nl.Open()
	if err != nil {
		return nil, err
	}
	control, err := openControl()
	if err != nil {
		return nil, err
	}
	s := &step{
		env: env, conn: conn, control: control, userspace: kind == userspace, carriers: map[string]*carrier{}, dead: make(chan string, 1),
		files: newFiles(env.RunDir), key: keyFile{path: env.String("key-file"), flannel: env.String("flannel-key-file")},
	}
	if verb := env.Verb(); s.userspace && verb == "watch" {
		env.Log.Warn("this process encrypts and carries the packets itself", "because", why)
	} else if s.userspace && verb == "apply" {
		env.Log.Warn("packets are carried only while watch runs", "because", why)
	}
	return s, nil
}
