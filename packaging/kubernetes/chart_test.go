// Package kubernetes holds the Helm chart against the manifests: they are two ways to the same objects.
package kubernetes

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"sigs.k8s.io/yaml"
)

type objects map[string]map[string]any // by kind and name

// add reads a text of objects.
func (o objects) add(t *testing.T, text string) {
	t.Helper()
	for _, one := range strings.Split("\n"+text, "\n---\n") {
		var object map[string]any
		if err := yaml.Unmarshal([]byte(one), &object); err != nil {
			t.Fatalf("%v in\n%s", err, one)
		}
		if len(object) == 0 {
			continue
		}
		metadata, _ := object["metadata"].(map[string]any)
		o[fmt.Sprintf("%v/%v", object["kind"], metadata["name"])] = object
	}
}

// canonical makes equal what means the same: JSON in a ConfigMap, and lists whose order says nothing.
func (o objects) canonical(t *testing.T) objects {
	t.Helper()
	for name, object := range o {
		if data, ok := object["data"].(map[string]any); ok {
			for key, text := range data {
				var value any
				if err := json.Unmarshal([]byte(text.(string)), &value); err != nil {
					t.Errorf("%s: %s: %v", name, key, err)
				}
				data[key] = value
			}
		}
		if name == "DaemonSet/towpath" {
			pod := dig(object, "spec", "template", "spec").(map[string]any)
			byName(pod["volumes"], "name")
			for _, c := range pod["containers"].([]any) {
				byName(c.(map[string]any)["volumeMounts"], "mountPath")
			}
			if list, ok := pod["initContainers"].([]any); ok && len(list) == 0 {
				delete(pod, "initContainers")
			}
		}
	}
	return o
}

func dig(v any, path ...string) any {
	for _, key := range path {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	return v
}

func byName(v any, key string) {
	list := v.([]any)
	sort.Slice(list, func(i, j int) bool { return fmt.Sprint(dig(list[i], key)) < fmt.Sprint(dig(list[j], key)) })
}

// manifest is a generated file's objects. Helm makes the namespace itself.
func manifest(t *testing.T, name string) objects {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	o := objects{}
	o.add(t, string(text))
	delete(o, "Namespace/towpath")
	return o.canonical(t)
}

// render is what the chart makes of values.
func render(t *testing.T, namespace string, values map[string]any) objects {
	t.Helper()
	chart, err := loader.LoadDir("chart")
	if err != nil {
		t.Fatal(err)
	}
	all, err := chartutil.ToRenderValues(chart, values, chartutil.ReleaseOptions{Name: "towpath", Namespace: namespace, IsInstall: true}, chartutil.DefaultCapabilities)
	if err != nil {
		t.Fatal(err)
	}
	files, err := engine.Engine{Strict: true}.Render(chart, all)
	if err != nil {
		t.Fatal(err)
	}
	o := objects{}
	for name, text := range files {
		if filepath.Ext(name) == ".yaml" {
			o.add(t, text)
		}
	}
	return o.canonical(t)
}

// TestChartMakesTheManifests: without values the chart makes towpath.yaml; others make the other manifests.
func TestChartMakesTheManifests(t *testing.T) {
	for _, c := range []struct {
		manifest, namespace string
		values              map[string]any
	}{
		{"towpath.yaml", "towpath", nil},
		{"towpath-kube-flannel.yaml", "kube-flannel", map[string]any{"configMap": map[string]any{"create": false}}},
		{"uninstall.yaml", "towpath", map[string]any{"uninstall": true}},
		{"uninstall-kube-flannel.yaml", "kube-flannel", map[string]any{"uninstall": true, "configMap": map[string]any{"create": false}}},
	} {
		if diff := cmp.Diff(manifest(t, c.manifest), render(t, c.namespace, c.values)); diff != "" {
			t.Errorf("%s (-manifest +chart):\n%s", c.manifest, diff)
		}
	}
}

// TestValues: each value does what it says.
func TestValues(t *testing.T) {
	container := func(o objects) map[string]any {
		return dig(o["DaemonSet/towpath"], "spec", "template", "spec", "containers").([]any)[0].(map[string]any)
	}
	variable := func(o objects, name string) any {
		for _, v := range container(o)["env"].([]any) {
			if dig(v, "name") == name {
				return dig(v, "value")
			}
		}
		return nil
	}
	expect := func(what string, got, want any) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	o := render(t, "n", map[string]any{
		"image":   map[string]any{"name": "example.org/towpath", "tag": "v1", "pullPolicy": "Always", "pullSecrets": []any{map[string]any{"name": "s"}}},
		"network": "", "ipv6Network": "fd00::/48", "backend": map[string]any{"Type": "host-gw"}, "netConf": map[string]any{"IPv6SubnetLen": 60},
		"plugins": []any{}, "policy": false, "ipMasq": false, "interface": "eth1", "annotationPrefix": "example.org/net", "admissionPolicy": true,
		"health": map[string]any{"port": 1234}, "env": map[string]any{"TOWPATH_LOG_LEVEL": "debug"}, "maxUnavailable": 1,
		"host": map[string]any{"cniBin": "/usr/libexec/cni"},
	})
	expect("image", container(o)["image"], "example.org/towpath:v1")
	expect("pull policy", container(o)["imagePullPolicy"], "Always")
	expect("pull secrets", o["ServiceAccount/towpath"]["imagePullSecrets"], []any{map[string]any{"name": "s"}})
	expect("net-conf.json", dig(o["ConfigMap/kube-flannel-cfg"], "data", "net-conf.json"), map[string]any{
		"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd00::/48", "IPv6SubnetLen": 60.0, "Backend": map[string]any{"Type": "host-gw"},
	})
	expect("plugins", len(dig(o["ConfigMap/kube-flannel-cfg"], "data", "cni-conf.json", "plugins").([]any)), 1)
	expect("no policy", variable(o, "TOWPATH_OBJECTS"), nil)
	expect("no right that is not used", len(o["ClusterRole/towpath"]["rules"].([]any)), 2)
	expect("masquerading", variable(o, "TOWPATH_IP_MASQ"), "false")
	expect("interface", variable(o, "TOWPATH_IFACE"), "eth1")
	expect("prefix", variable(o, "TOWPATH_ANNOTATION_PREFIX"), "example.org/net")
	expect("health", variable(o, "TOWPATH_HEALTH"), "127.0.0.1:1234")
	expect("probe", dig(container(o), "readinessProbe", "httpGet", "port"), 1234.0)
	expect("further variables", variable(o, "TOWPATH_LOG_LEVEL"), "debug")
	expect("update", dig(o["DaemonSet/towpath"], "spec", "updateStrategy", "rollingUpdate", "maxUnavailable"), 1.0)
	policy, err := json.Marshal(o["ValidatingAdmissionPolicy/towpath"])
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"system:serviceaccount:n:towpath", "'example.org/net-'"} {
		if !strings.Contains(string(policy), part) {
			t.Errorf("the admission policy does not name %s: %s", part, policy)
		}
	}
	off := render(t, "n", map[string]any{"admissionPolicy": false})
	expect("no admission policy", off["ValidatingAdmissionPolicy/towpath"] == nil && off["ValidatingAdmissionPolicyBinding/towpath"] == nil, true)
}
