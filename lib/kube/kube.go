// Package kube is the only way to the Kubernetes API server: one client of few kinds, what reads and changes single
// objects, and Follow, which keeps a program told of all objects of a kind. It knows only the kinds that towpath
// uses, so that a program that links it stays small, and asks for protobuf.
package kube

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/version"
)

// Options say how to reach the API server.
type Options struct {
	// Kubeconfig is a file; empty: the pod's service account.
	Kubeconfig string
	// Server replaces the URL of the kubeconfig or of the pod's environment; empty: as there.
	Server string
	// Program names this program in the API server's logs.
	Program string
}

// Client is a connection to one API server. It may be used by several goroutines.
type Client struct {
	host    string
	clients map[schema.GroupVersion]rest.Interface
}

// Host is the URL of the API server, without credentials.
func (c *Client) Host() string { return c.host }

var (
	scheme = runtime.NewScheme()
	codecs = serializer.NewCodecFactory(scheme)
	params = runtime.NewParameterCodec(scheme)
)

func init() {
	utilruntime.Must(corev1.AddToScheme(scheme))
	utilruntime.Must(networkingv1.AddToScheme(scheme))
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
}

// Open prepares a client; the API server is not asked for anything yet. Errors: 78 for a kubeconfig that is
// missing or wrong, or for a process in no pod that names none.
func Open(o Options) (*Client, error) {
	config, err := restConfig(o)
	if err != nil {
		return nil, err
	}
	config.UserAgent = cmp.Or(o.Program, "towpath") + "/" + version.Version
	config.Timeout = 0 // watches last; single requests have a context
	config.QPS, config.Burst = 20, 40
	config.NegotiatedSerializer = lean{codecs.WithoutConversion()}
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	c := &Client{host: config.Host, clients: map[schema.GroupVersion]rest.Interface{}}
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, exit.Errorf(exit.BadConfig, "kubernetes client: %w", err)
	}
	for gv, path := range map[schema.GroupVersion]string{
		corev1.SchemeGroupVersion: "/api", networkingv1.SchemeGroupVersion: "/apis",
	} {
		one := rest.CopyConfig(config)
		one.GroupVersion, one.APIPath = &gv, path
		if c.clients[gv], err = rest.RESTClientForConfigAndClient(one, transport); err != nil {
			return nil, exit.Errorf(exit.BadConfig, "kubernetes client: %w", err)
		}
	}
	return c, nil
}

func restConfig(o Options) (*rest.Config, error) {
	if o.Kubeconfig == "" {
		config, err := rest.InClusterConfig()
		if errors.Is(err, rest.ErrNotInCluster) {
			return nil, exit.WithHint(exit.Errorf(exit.BadConfig, "no way to the API server is known: this process runs in no pod"),
				"name a kubeconfig file with --kubeconfig or TOWPATH_KUBECONFIG")
		}
		if err != nil {
			return nil, exit.Errorf(exit.BadConfig, "service account of this pod: %w", err)
		}
		if o.Server != "" {
			config.Host = o.Server
		}
		return config, nil
	}
	if _, err := os.Stat(o.Kubeconfig); err != nil {
		return nil, exit.WithHint(exit.Errorf(exit.BadConfig, "kubeconfig: %w", err), "give the right path with --kubeconfig")
	}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: o.Kubeconfig},
		&clientcmd.ConfigOverrides{ClusterInfo: clientcmdapi.Cluster{Server: o.Server}},
	).ClientConfig()
	if err != nil {
		return nil, exit.Errorf(exit.BadConfig, "kubeconfig %s: %w", o.Kubeconfig, err)
	}
	return config, nil
}

// Timeout bounds one request that is no watch.
const Timeout = 30 * time.Second

// wrap gives an error of the API the exit status and the hint that fit.
func wrap(verb, what string, err error) error {
	if err == nil {
		return nil
	}
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err // the address of the request says nothing more, and differs each time
	}
	return fault(fmt.Errorf("%s %s: %w", verb, what, err), err)
}
