//go:build cluster

package cluster

import (
	"fmt"
	"strings"
	"testing"
)

func TestNodesReady(t *testing.T) {
	ready(t)
	for _, node := range nodes(t) {
		got := kubectl(t, "get", "node", node, "-o", `jsonpath={.status.conditions[?(@.type=="NetworkUnavailable")].status}`)
		if got != "False" {
			t.Errorf("%s: NetworkUnavailable is %q, want False", node, got)
		}
	}
}

// Every kind of address of pods and services, from every side.
func TestReach(t *testing.T) {
	ns := namespace(t, "reach")
	p := start(t, ns, "{containerPort: 8080, hostPort: 8088}", "a@worker01", "c@worker02")
	p = append(p, start(t, ns, "", "b@worker01", "m@master")...)
	a, c, b, m := &p[0], &p[1], &p[2], &p[3]
	service := func(name, pod, more string) {
		apply(t, fmt.Sprintf(`{apiVersion: v1, kind: Service, metadata: {name: %s, namespace: %s},
  spec: {selector: {pod: %s}, ports: [{name: http, port: 80, targetPort: 8080}, {name: udp, port: 81, targetPort: 8081, protocol: UDP}]%s}}`, name, ns, pod, more))
	}
	service("web", "a", ", type: NodePort")
	service("headless", "c", ", clusterIP: None")
	value := func(path string) string {
		return kubectl(t, "-n", ns, "get", "service", "web", "-o", "jsonpath={.spec."+path+"}")
	}
	clusterIP, nodePort := value("clusterIP"), value("ports[0].nodePort")

	t.Run("pod to pod", func(t *testing.T) {
		for _, from := range []*pod{a, b, c, m} {
			for _, to := range []*pod{a, b, c, m} {
				from.reaches(t, "http://"+to.ip+":8080/hostname", to.name)
				if from != to { // the address is not translated on the way
					from.reaches(t, "http://"+to.ip+":8080/clientip", from.ip+":")
				}
			}
		}
	})
	t.Run("service", func(t *testing.T) {
		for _, from := range []*pod{b, c, m} {
			from.reaches(t, "http://"+clusterIP+"/hostname", "a")
		}
		for _, node := range nodes(t) {
			poll(t, node+" to the service", func() error {
				_, err := try(node, "curl", "-sSf", "--max-time", "5", "http://"+clusterIP+"/hostname")
				return err
			})
		}
	})
	t.Run("hairpin", func(t *testing.T) { a.reaches(t, "http://"+clusterIP+"/hostname", "a") })
	outside := func(t *testing.T, url, want string) {
		t.Helper()
		poll(t, "outside to "+url, func() error {
			got, err := try("outside", "curl", "-sS", "--max-time", "5", url)
			if err == nil && got != want {
				err = fmt.Errorf("answer %q, want %q", got, want)
			}
			return err
		})
	}
	t.Run("node port", func(t *testing.T) {
		for n := range nodes(t) { // of each node, also of those the pod is not on
			outside(t, fmt.Sprintf("http://192.168.100.%d:%s/hostname", 11+n, nodePort), "a")
		}
	})
	t.Run("host port", func(t *testing.T) {
		outside(t, "http://192.168.100.12:8088/hostname", "a")
		outside(t, "http://192.168.100.13:8088/hostname", "c")
		a.reaches(t, "http://192.168.100.13:8088/hostname", "c")
	})
	t.Run("dns", func(t *testing.T) {
		for _, from := range []*pod{a, c, m} {
			from.reaches(t, "http://web/hostname", "a")
			from.reaches(t, "http://web."+ns+".svc.cluster.local/hostname", "a")
			from.reaches(t, "http://headless:8080/hostname", "c")
		}
	})
	t.Run("API server", func(t *testing.T) { // by its Service, as every controller in a pod does
		for _, from := range []*pod{a, c, m} {
			poll(t, from.name+" to the API server", func() error {
				_, err := from.exec("curl", "-sSkf", "--max-time", "5", "https://kubernetes.default.svc.cluster.local/readyz")
				return err
			})
		}
	})
	t.Run("exec and logs", func(t *testing.T) {
		for _, from := range []*pod{a, c, m} {
			if got, err := from.exec("hostname"); err != nil || strings.TrimSpace(got) != from.name {
				t.Errorf("exec in %s: %q, %v", from.name, got, err)
			}
			poll(t, "logs of "+from.name, func() error {
				if got := kubectl(t, "-n", ns, "logs", from.name); !strings.Contains(got, "GET /hostname") {
					return fmt.Errorf("no request in %q", got)
				}
				return nil
			})
		}
	})
	t.Run("outside", func(t *testing.T) { // beyond the cluster, a pod has its node's address
		background(t, nil, "outside", "agnhost", "netexec", "--http-port=8080", "--udp-port=8081")
		a.reaches(t, "http://192.168.100.200:8080/clientip", "192.168.100.12:")
		c.reaches(t, "http://192.168.100.200:8080/clientip", "192.168.100.13:")
	})
}
