// Package apitest runs a real etcd and a real kube-apiserver for tests, on all addresses of the namespace that the test
// is in. Only tests import it. The programs are built by `make cluster-api` into bin/cluster; without them a test is
// skipped, or fails where REQUIRE_NETNS is set.
package apitest

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/etcdtest"
	"github.com/towpath/towpath/lib/nstest"
)

// Server is an etcd and an API server. Its methods fail the test on an error.
type Server struct {
	URL string // https://127.0.0.1:PORT
	Dir string // of its files, gone after the test
	// Audit is the log of every request that was answered, a JSON object a line (audit.k8s.io/v1, level Metadata).
	Audit string

	t    testing.TB
	etcd *etcdtest.Server
	api  *etcdtest.Process
	args []string
}

// Admin is the user that may do everything (group system:masters).
const Admin = "admin"

// Start starts both and waits until the API server is ready. users may log in beside Admin, each with its name as
// its token; "NAME,GROUP" puts one into a group. Needs nstest.Main in TestMain.
func Start(t testing.TB, users ...string) *Server {
	t.Helper()
	nstest.Need(t)
	etcdtest.Program(t, "kube-apiserver") // before anything is started
	s := &Server{t: t, Dir: t.TempDir(), etcd: etcdtest.Start(t, etcdtest.Options{})}
	s.Audit = filepath.Join(s.Dir, "audit.log")
	s.write("tokens.csv", tokens(users))
	s.write("audit.yaml", "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived, ResponseStarted]\nrules: [{level: Metadata}]\n")
	s.write("sa.key", string(privateKey(t)))
	p := etcdtest.FreePort(t)
	s.URL = "https://127.0.0.1:" + p
	s.args = []string{
		"--etcd-servers", s.etcd.URL, "--secure-port", p, "--bind-address", "0.0.0.0", "--cert-dir", s.path("certs"),
		"--token-auth-file", s.path("tokens.csv"), "--authorization-mode", "RBAC,Node", "--service-cluster-ip-range", "10.96.0.0/16",
		"--service-account-key-file", s.path("sa.key"), "--service-account-signing-key-file", s.path("sa.key"),
		"--service-account-issuer", "https://kubernetes.default.svc", "--audit-policy-file", s.path("audit.yaml"), "--audit-log-path", s.Audit,
		"--advertise-address", "127.0.0.1", "--endpoint-reconciler-type", "none", "--allow-privileged",
	}
	s.Resume()
	return s
}

// tokens is the API server's file of users: token, name, id, groups.
func tokens(users []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s,%s,%s,system:masters\n", Admin, Admin, Admin)
	for _, u := range users {
		name, group, _ := strings.Cut(u, ",")
		fmt.Fprintf(&b, "%s,%s,%s,%q\n", name, name, name, group)
	}
	return b.String()
}

// Resume starts the API server, after Pause, and waits until it is ready.
func (s *Server) Resume() {
	s.t.Helper()
	s.api = etcdtest.Run(s.t, s.path("kube-apiserver.log"), etcdtest.Program(s.t, "kube-apiserver"), s.args...)
	deadline := time.Now().Add(2 * time.Minute)
	for {
		answer, err := insecure.Get(s.URL + "/readyz")
		if err == nil {
			body, _ := io.ReadAll(answer.Body)
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return
			}
			err = fmt.Errorf("%s: %s", answer.Status, body)
		}
		if time.Now().After(deadline) || s.api.Ended() {
			s.t.Fatalf("kube-apiserver does not get ready: %v\n%s", err, etcdtest.Tail(s.path("kube-apiserver.log")))
		}
		<-time.After(50 * time.Millisecond)
	}
}

// Pause ends the API server at once, as a power cut would; etcd keeps what it has.
func (s *Server) Pause() {
	s.t.Helper()
	if s.api != nil {
		s.api.Kill()
		s.api = nil
	}
}

// Kubeconfig writes a kubeconfig file for a user and returns its path.
func (s *Server) Kubeconfig(user string) string {
	s.t.Helper()
	return s.write("kubeconfig-"+user, fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: %q, insecure-skip-tls-verify: true}}]
users: [{name: test, user: {token: %q}}]
contexts: [{name: test, context: {cluster: test, user: test}}]
current-context: test
`, s.URL, user))
}

// Do sends a JSON request as Admin, such as Do("POST", "/api/v1/nodes", body), and returns the answer; what it PATCHes is merged. A
// status above 299 fails the test.
func (s *Server) Do(method, path, body string) []byte {
	s.t.Helper()
	contentType := "application/json"
	if method == http.MethodPatch {
		contentType = "application/merge-patch+json"
	}
	code, answer := s.As(Admin, method, path, contentType, body)
	if code > 299 {
		s.t.Fatalf("%s %s: %d: %s", method, path, code, answer)
	}
	return answer
}

// As sends a request as a user and returns the status and the answer.
func (s *Server) As(user, method, path, contentType, body string) (int, []byte) {
	s.t.Helper()
	r, err := http.NewRequest(method, s.URL+path, bytes.NewReader([]byte(body)))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+user)
	r.Header.Set("Content-Type", contentType)
	answer, err := insecure.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer.StatusCode, got
}

var insecure = &http.Client{
	Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}, //nolint:gosec // the server's certificate is its own
	Timeout:   time.Minute,
}

func (s *Server) path(name string) string { return filepath.Join(s.Dir, name) }

func (s *Server) write(name, text string) string {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return s.path(name)
}

func privateKey(t testing.TB) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
}
