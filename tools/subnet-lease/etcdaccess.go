package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/grpc/status"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
)

const (
	// requestWait is how long etcd may take for one answer. A cluster that chooses a new leader takes seconds.
	requestWait = 10 * time.Second
	// connectWait is how long a connection may take.
	connectWait = 5 * time.Second
	// A connection that nothing comes over is asked for a sign of life, so that a partition is noticed.
	pingEvery, pingWait = 20 * time.Second, 10 * time.Second

	passwordVariable = "TOWPATH_ETCD_PASSWORD" // no flag: everybody sees a process's arguments
)

var etcdFlags = []tool.Flag{
	{Name: "etcd-prefix", Usage: "what the keys of --store etcd://… begin with", Default: "/coreos.com/network"},
	{Name: "etcd-cafile", Usage: "certificates that the etcd server's is checked with; default: the system's", Default: ""},
	{Name: "etcd-certfile", Usage: "client certificate for etcd", Default: ""},
	{Name: "etcd-keyfile", Usage: "key of the client certificate", Default: ""},
	{Name: "etcd-username", Usage: "user of etcd; the password is in " + passwordVariable + " or --etcd-password-file", Default: ""},
	{Name: "etcd-password-file", Usage: "file that holds the user's password", Default: ""},
}

// etcdAccess is the way to an etcd: where it is, and who asks.
type etcdAccess struct {
	scheme    string // etcd or etcds
	endpoints []string
	prefix    string

	caFile, certFile, keyFile        string
	username, passwordFile, password string
}

// etcdAccessOf reads --store and the flags of etcd. Nothing is opened.
func etcdAccessOf(env *tool.Env) (a etcdAccess, err error) {
	url := env.String("store")
	refuse := func(hint, format string, args ...any) (etcdAccess, error) {
		return a, exit.WithHint(exit.Errorf(exit.Usage, "--store %q: "+format, append([]any{url}, args...)...), "%s", hint)
	}
	const form = "write etcd://HOST:PORT[,HOST:PORT…], or etcds:// for TLS"
	scheme, rest, ok := strings.Cut(url, "://")
	switch {
	case !ok:
		return refuse(form, "no address of etcd")
	case strings.Contains(rest, "@"):
		return refuse("use --etcd-username and --etcd-password-file or "+passwordVariable, "a user does not belong there, where everybody sees it")
	case strings.Contains(rest, "/"):
		return refuse("give the keys' prefix with --etcd-prefix", "an address has no path")
	}
	a = etcdAccess{
		scheme: scheme, prefix: path.Join(env.String("etcd-prefix")),
		caFile: env.String("etcd-cafile"), certFile: env.String("etcd-certfile"), keyFile: env.String("etcd-keyfile"),
		username: env.String("etcd-username"), passwordFile: env.String("etcd-password-file"), password: os.Getenv(passwordVariable),
	}
	for endpoint := range strings.SplitSeq(rest, ",") {
		host, port, err := net.SplitHostPort(endpoint)
		if _, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || host == "" {
			return refuse(form, "%q is no HOST:PORT", endpoint)
		}
		a.endpoints = append(a.endpoints, endpoint)
	}
	switch {
	case scheme == state.Etcd && a.caFile+a.certFile+a.keyFile != "":
		return refuse("write etcds:// in the place of etcd://", "certificates are given, and the connection is without TLS")
	case (a.certFile == "") != (a.keyFile == ""):
		return refuse("give --etcd-certfile and --etcd-keyfile", "a client certificate needs its key, and a key its certificate")
	case a.username == "" && a.passwordFile+a.password != "":
		return refuse("give --etcd-username", "there is a password, and no user")
	case a.username != "" && a.passwordFile == "" && a.password == "":
		return refuse("give --etcd-password-file or "+passwordVariable, "there is a user, and no password")
	}
	return a, nil
}

// url names the store, without credentials.
func (a etcdAccess) url() string {
	return a.scheme + "://" + strings.Join(a.endpoints, ",") + "/" + strings.TrimPrefix(a.prefix, "/")
}

// connect makes a client. It reads the files anew, so that what was replaced counts. With a user it asks for a token.
func (a etcdAccess) connect(ctx context.Context) (*clientv3.Client, error) {
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard)) // what matters comes as an error
	conf := clientv3.Config{
		Context: context.WithoutCancel(ctx), DialTimeout: connectWait, DialKeepAliveTime: pingEvery, DialKeepAliveTimeout: pingWait,
		Username: a.username, Password: a.password, Logger: zap.NewNop(),
		MaxUnaryRetries: 2, // the second with a new token, where the first's was too old; we do the rest, more slowly
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: time.Second, Multiplier: 2, Jitter: 0.5, MaxDelay: 30 * time.Second}, MinConnectTimeout: connectWait,
		}), grpc.WithChainUnaryInterceptor(hear)},
	}
	scheme := "http://"
	if a.scheme == state.Etcds {
		scheme = "https://"
		var err error
		if conf.TLS, err = a.tls(); err != nil {
			return nil, err
		}
	}
	for _, e := range a.endpoints {
		conf.Endpoints = append(conf.Endpoints, scheme+e)
	}
	if a.passwordFile != "" {
		text, err := state.ReadFile(a.passwordFile, state.MaxSize)
		if err != nil {
			return nil, exit.Errorf(exit.BadConfig, "--etcd-password-file: %w", err)
		}
		if conf.Password = strings.TrimRight(string(text), "\r\n"); conf.Password == "" {
			return nil, exit.Errorf(exit.BadConfig, "--etcd-password-file %q: it is empty", a.passwordFile)
		}
	}
	var client *clientv3.Client
	err := withCause(conf.Context, func(ctx context.Context) (err error) {
		conf.Context = ctx
		client, err = clientv3.New(conf)
		return err
	})
	return client, a.wrap("connect to", err)
}

func (a etcdAccess) tls() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.caFile != "" {
		text, err := state.ReadFile(a.caFile, state.MaxSize)
		if err != nil {
			return nil, exit.Errorf(exit.BadConfig, "--etcd-cafile: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(text) {
			return nil, exit.Errorf(exit.BadConfig, "--etcd-cafile %q: there is no certificate in it", a.caFile)
		}
	}
	if a.certFile == "" {
		return conf, nil
	}
	load := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		cert, err := tls.LoadX509KeyPair(a.certFile, a.keyFile)
		return &cert, err
	}
	if _, err := load(nil); err != nil {
		return nil, exit.Errorf(exit.BadConfig, "--etcd-certfile %q, --etcd-keyfile %q: %w", a.certFile, a.keyFile, err)
	}
	conf.GetClientCertificate = load // at each handshake, so that a renewed one counts
	return conf, nil
}

// causeKey is the key of a *error in a context, where hear puts what a request failed with.
type causeKey struct{}

// hear is an interceptor. Of a request that waits for a connection until its time is over, clientv3 tells no more than that; why there is
// no connection is what people want to know.
func hear(ctx context.Context, method string, request, answer any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, request, answer, conn, opts...)
	if cause, ok := ctx.Value(causeKey{}).(*error); ok && err != nil {
		*cause = err
	}
	return err
}

// withCause calls f with a context for hear.
func withCause(ctx context.Context, f func(context.Context) error) error {
	var cause error
	err := f(context.WithValue(ctx, causeKey{}, &cause))
	if errors.Is(err, context.DeadlineExceeded) && cause != nil {
		return cause
	}
	return err
}

// transport is what matters in gRPC's words about a connection.
var transport = regexp.MustCompile(`desc = "(?:transport: )?(.*)"`)

const clientCertificate = "does the server want a client certificate? Give --etcd-certfile and --etcd-keyfile"

// wantsCertificate is what a server that got no client certificate says: with TLS 1.3, and before it. It is lost when the
// connection is gone before the alert is read.
var wantsCertificate = regexp.MustCompile(`tls: (certificate required|bad certificate)`)

// wrap gives an error of etcd's the exit status that it means. what is done to the store, as in "list".
func (a etcdAccess) wrap(what string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	var known *exit.Error
	if errors.As(err, &known) {
		return err
	}
	code, hint, text := exit.Unavailable, "", err.Error()
	if st, ok := status.FromError(err); ok {
		text = st.Message()
	}
	text = strings.TrimPrefix(text, "latest balancer error: ")
	if m := transport.FindStringSubmatch(text); m != nil {
		text = m[1]
	}
	is := func(targets ...error) bool {
		e := rpctypes.Error(err)
		for _, target := range targets {
			if errors.Is(e, target) {
				text = e.Error()
				return true
			}
		}
		return false
	}
	switch {
	case is(rpctypes.ErrPermissionDenied):
		code, hint = exit.NoPermission, fmt.Sprintf("the user needs to read %s and to read and write what begins with %s", path.Join(a.prefix, "config"), path.Join(a.prefix, "subnets")+"/")
	case is(rpctypes.ErrUserEmpty):
		code, hint = exit.NoPermission, "this etcd wants a user: --etcd-username, or a client certificate"
	case is(rpctypes.ErrAuthFailed, rpctypes.ErrInvalidAuthToken):
		code, hint = exit.NoPermission, "check --etcd-username and the password"
	case is(rpctypes.ErrNoSpace):
		hint = "etcd's database is full: compact and defragment it, and disarm its alarm"
	case a.certFile == "" && wantsCertificate.MatchString(text):
		hint = clientCertificate
	case strings.Contains(text, "tls: ") || strings.Contains(text, "x509: "):
		hint = "check --etcd-cafile, --etcd-certfile and --etcd-keyfile, and that the server speaks TLS"
	case strings.Contains(text, "error reading server preface"):
		hint = "does the server speak TLS? Then write etcds://"
	case a.scheme == state.Etcds && a.certFile == "":
		hint = clientCertificate
	}
	err = exit.Errorf(code, "%s %s: %s", what, a.url(), text)
	if hint != "" {
		err = exit.WithHint(err, "%s", hint)
	}
	return err
}
