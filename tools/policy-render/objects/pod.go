package objects

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// thing is what is read of a Pod or Namespace, and enough of anything else to know what it is. Everything that is
// not named here is passed over.
type thing struct {
	APIVersion string `yaml:"apiVersion" json:"apiVersion"`
	Kind       string `yaml:"kind" json:"kind"`
	Metadata   struct {
		Name        string            `yaml:"name" json:"name"`
		Namespace   string            `yaml:"namespace" json:"namespace"`
		UID         string            `yaml:"uid" json:"uid"`
		Labels      map[string]string `yaml:"labels" json:"labels"`
		Annotations struct {
			// Mirror is the identity that the kubelet gives a pod of its own manifests; the API's uid is another.
			Mirror string `yaml:"kubernetes.io/config.mirror" json:"kubernetes.io/config.mirror"`
		} `yaml:"annotations" json:"annotations"`
	} `yaml:"metadata" json:"metadata"`
	Spec struct {
		NodeName       string      `yaml:"nodeName" json:"nodeName"`
		HostNetwork    bool        `yaml:"hostNetwork" json:"hostNetwork"`
		Containers     []container `yaml:"containers" json:"containers"`
		InitContainers []container `yaml:"initContainers" json:"initContainers"`
	} `yaml:"spec" json:"spec"`
	Status struct {
		Phase   string `yaml:"phase" json:"phase"`
		PodIP   string `yaml:"podIP" json:"podIP"`
		PodIPs  []ip   `yaml:"podIPs" json:"podIPs"`
		HostIP  string `yaml:"hostIP" json:"hostIP"`
		HostIPs []ip   `yaml:"hostIPs" json:"hostIPs"`
	} `yaml:"status" json:"status"`
	Items any `yaml:"items" json:"-"`
}

type ip struct {
	IP string `yaml:"ip" json:"ip"`
}

type container struct {
	RestartPolicy string `yaml:"restartPolicy" json:"restartPolicy"`
	Ports         []struct {
		Name          string `yaml:"name" json:"name"`
		ContainerPort int    `yaml:"containerPort" json:"containerPort"`
		Protocol      string `yaml:"protocol" json:"protocol"`
	} `yaml:"ports" json:"ports"`
}

func (t *thing) name(k Kind) string {
	if k == Namespace {
		return fmt.Sprintf("%s %q", k, t.Metadata.Name)
	}
	return fmt.Sprintf("%s %q", k, cmp.Or(t.Metadata.Namespace, "default")+"/"+t.Metadata.Name)
}

// make builds the object of a thing of a known kind.
func (r *reader) make(kind Kind, t *thing, at Place) (*Object, error) {
	m := &t.Metadata
	if kind == Namespace {
		if !model.IsDNSLabel(m.Name) {
			return nil, bad(at, fmt.Errorf("%s: key \"metadata.name\": %w", t.name(kind), errNamespaceName))
		}
		return &Object{Namespace: &model.Namespace{Name: m.Name, Labels: r.labels(m.Labels)}}, nil
	}
	p, err := r.pod(t, at)
	if err != nil {
		return nil, bad(at, fmt.Errorf("%s: %w", t.name(kind), err))
	}
	return &Object{Pod: p}, nil
}

var (
	errNamespaceName = errors.New("a namespace's name is 1 to 63 lower-case letters, digits and '-', with a letter or digit at both ends")
	errName          = errors.New("a name is lower-case letters, digits, '-' and '.', with a letter or digit at both ends of each part")
)

func checkName(namespace *string, name string) error {
	if *namespace == "" {
		*namespace = "default"
	}
	switch {
	case !model.IsDNSName(name):
		return fmt.Errorf("key \"metadata.name\": %w", errName)
	case !model.IsDNSLabel(*namespace):
		return fmt.Errorf("key \"metadata.namespace\": %w", errNamespaceName)
	}
	return nil
}

func (r *reader) pod(t *thing, at Place) (*model.Pod, error) {
	m := &t.Metadata
	if err := checkName(&m.Namespace, m.Name); err != nil {
		return nil, err
	}
	p := &model.Pod{
		Key: model.Key{Namespace: r.one(m.Namespace), Name: m.Name}, UID: m.UID, Labels: r.labels(m.Labels),
		Node: r.one(t.Spec.NodeName), HostNetwork: t.Spec.HostNetwork,
		Finished: t.Status.Phase == "Succeeded" || t.Status.Phase == "Failed",
	}
	if m.Annotations.Mirror != "" {
		p.UID = m.Annotations.Mirror
	}
	var err error
	if p.IPs, err = r.podAddrs(t, at); err != nil {
		return nil, err
	}
	if p.HostIPs, err = addrs("status.hostIP", t.Status.HostIP, t.Status.HostIPs); err != nil {
		return nil, err
	}
	for i, c := range t.Spec.Containers {
		if err := r.ports(p, fmt.Sprintf, "containers", i, c); err != nil {
			return nil, err
		}
	}
	for i, c := range t.Spec.InitContainers {
		if c.RestartPolicy == "Always" { // a sidecar: it runs as long as the pod
			if err := r.ports(p, fmt.Sprintf, "initContainers", i, c); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

func (r *reader) ports(p *model.Pod, at func(string, ...any) string, list string, i int, c container) error {
	for j, cp := range c.Ports {
		if cp.Name == "" {
			continue
		}
		proto := model.TCP
		if cp.Protocol != "" {
			var ok bool
			if proto, ok = model.ParseProtocol(cp.Protocol); !ok {
				return fmt.Errorf("key %q: %q is not one of TCP, UDP, SCTP", at("spec.%s[%d].ports[%d].protocol", list, i, j), cp.Protocol)
			}
		}
		if cp.ContainerPort < 1 || cp.ContainerPort > 65535 {
			return fmt.Errorf("key %q: %d is not a port", at("spec.%s[%d].ports[%d].containerPort", list, i, j), cp.ContainerPort)
		}
		p.Ports = append(p.Ports, model.NamedPort{Name: r.one(cp.Name), Protocol: proto, Port: uint16(cp.ContainerPort)})
	}
	return nil
}

// addrs reads the list, or the single address where there is no list.
func addrs(key, single string, all []ip) ([]netip.Addr, error) {
	if len(all) == 0 && single == "" {
		return nil, nil
	}
	if len(all) == 0 {
		a, err := netip.ParseAddr(single)
		if err != nil {
			return nil, fmt.Errorf("key %q: %q is not an address", key, single)
		}
		return []netip.Addr{a.Unmap()}, nil
	}
	out := make([]netip.Addr, len(all))
	for i, s := range all {
		a, err := netip.ParseAddr(s.IP)
		if err != nil {
			return nil, fmt.Errorf("key %q: %q is not an address", fmt.Sprintf("%ss[%d].ip", key, i), s.IP)
		}
		out[i] = a.Unmap()
	}
	return out, nil
}

// one gives one copy of each string that recurs.
func (r *reader) one(s string) string {
	if have, ok := r.intern[s]; ok {
		return have
	}
	s = strings.Clone(s)
	r.intern[s] = s
	return s
}

func (r *reader) labels(in map[string]string) map[string]string {
	if len(in) == 0 {
		return nil
	}
	out := make(map[string]string, len(in))
	for k, v := range in {
		out[r.one(k)] = r.one(v)
	}
	return out
}

// jsonError names the key of a value of the wrong type.
func jsonError(err error) error {
	var t *json.UnmarshalTypeError
	if !errors.As(err, &t) || t.Field == "" {
		return fmt.Errorf("read JSON: %w", err)
	}
	want := jsonWord(t.Type.Kind().String())
	got, _, _ := strings.Cut(t.Value, " ") // "number 80.5"
	err = fmt.Errorf("key %q: %s does not belong here, but %s", t.Field, jsonWord(got), want)
	if want == "a string" {
		return exit.WithHint(err, "write the value in quotes")
	}
	return err
}

// jsonWord is what JSON calls a kind of Go's or of its decoder's.
func jsonWord(kind string) string {
	switch kind {
	case "struct", "map", "ptr", "object":
		return "an object"
	case "slice", "array":
		return "a list"
	case "bool":
		return "true or false"
	case "string", "number":
		return "a " + kind
	}
	return "a whole number"
}
