package ruleset

import "strings"

// Denial is why a rule logs a packet and drops it: the letter in the prefix of its NFLOG message.
type Denial string

// The denials.
const (
	Egress  Denial = "E" // the policies of the pod that sent it; the name is that of their group's chain
	Ingress Denial = "I" // the policies of the pod that it is for; likewise
	Unknown Denial = "?" // an address of this node's subnet that no rules are there for
	Spoof   Denial = "S" // a pod sent what is not its to send
	Cut     Denial = "C" // of an established connection that a change forbade
)

// The names that go with the denials that no policy decides.
const (
	UnknownName = "unknown"
	SpoofName   = "spoof"
	TunnelName  = "tunnel" // with Spoof: to the port of the tunnel between the nodes
	CutName     = "cut"
)

// LogPrefix is the prefix of the messages of a rule: "towpath E ge-5f1c ".
func LogPrefix(d Denial, name string) string { return "towpath " + string(d) + " " + name + " " }

// ParseLogPrefix reads what LogPrefix wrote; ok is false for other people's.
func ParseLogPrefix(prefix string) (d Denial, name string, ok bool) {
	f := strings.Fields(prefix)
	if len(f) != 3 || f[0] != "towpath" {
		return "", "", false
	}
	return Denial(f[1]), f[2], true
}

// DenyChain is the chain in which a group of policies drops. Its Notes name the policies, "DIRECTION: NS/NAME …".
func DenyChain(family, group string) ID {
	return ID{Family: family, Kind: Chain, Name: "deny-" + group}
}
