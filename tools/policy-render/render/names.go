package render

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/towpath/towpath/lib/nft"
	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// How a direction is written, and what an allowed packet does then.
var (
	letter  = [2]string{model.Ingress: "i", model.Egress: "e"}
	denial  = [2]ruleset.Denial{model.Ingress: ruleset.Ingress, model.Egress: ruleset.Egress}
	word    = [2]string{model.Ingress: "ingress", model.Egress: "egress"}
	open    = [2]string{model.Ingress: "accept", model.Egress: "goto ingress"}
	peer    = [2]string{model.Ingress: "saddr", model.Egress: "daddr"}
	subject = [2]string{model.Ingress: "daddr", model.Egress: "saddr"}
)

// hash is a name for any text. 64 bits: a text that hits upon the name of another one cannot be searched for.
func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

// PolicyChain is the chain of what a policy allows in a direction: pi-NS/NAME, or pi-HASH where these are not
// what an API server would have let through, or too long.
func PolicyChain(d model.Direction, k model.Key) string {
	name := "p" + letter[d] + "-" + k.Namespace + "/" + k.Name
	if plain(k.Namespace) && plain(k.Name) && ruleset.CheckName(name) == nil {
		return name
	}
	return "p" + letter[d] + "-" + hash(fmt.Sprintf("%q/%q", k.Namespace, k.Name))
}

// plain says whether a name is of the letters that Kubernetes allows in one. In particular it has no "_", which
// stands for "/" in the name of a file.
func plain(name string) bool {
	for i := range len(name) {
		c := name[i]
		if ok := 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '.'; !ok {
			return false
		}
	}
	return name != ""
}

// groupChain is the chain of the pods that exactly these policies isolate in a direction.
func groupChain(d model.Direction, policies []*model.Policy) string {
	var b []byte
	for _, p := range policies {
		b = strconv.AppendQuote(append(strconv.AppendQuote(b, p.Namespace), '/'), p.Name)
		b = append(b, '\n')
	}
	return "g" + letter[d] + "-" + hash(string(b))
}

// SetName is the name of a compiled set's half of one family: sel4-5f1c….
func SetName(s *model.Set, suffix string) string {
	kind := map[model.Kind]string{model.SelectorSet: "sel", model.CIDRSet: "cidr", model.PortSet: "np"}[s.Kind()]
	return kind + suffix + "-" + s.Hash()
}

// clean makes one line of any text: what is no name of Kubernetes was not written by an API server.
func clean(text string) string { return strings.Trim(nft.Quote(text), `"`) }

// oneWord makes one word of any name.
func oneWord(name string) string {
	if plain(name) {
		return name
	}
	return strings.ReplaceAll(clean(name), " ", "_")
}

func keyText(k model.Key) string { return oneWord(k.Namespace) + "/" + oneWord(k.Name) }
