// Package etcdtest runs a real etcd for tests, on all addresses of the namespace that the test is in. Only tests import it. The
// program is built by `make cluster-api` into bin/cluster; without it a test is skipped, or fails where REQUIRE_NETNS is set.
package etcdtest

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/nstest"
)

// Options change what Start does.
type Options struct {
	// TLS has the server speak TLS and ask for a client certificate of Certificates' CA.
	TLS bool
	// Args are further arguments of etcd's.
	Args []string
}

// Server is an etcd. Its methods fail the test on an error.
type Server struct {
	Port string
	URL  string // http://127.0.0.1:PORT, or https://
	Dir  string // of its files, gone after the test

	t       testing.TB
	args    []string
	token   string // of the user that Do asks as
	process *Process
	client  *http.Client
}

// Start starts an etcd and waits until it answers. Needs nstest.Main in TestMain.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	nstest.Need(t)
	s := &Server{t: t, Dir: t.TempDir(), Port: FreePort(t), client: &http.Client{Timeout: time.Minute}}
	scheme := "http"
	if o.TLS {
		scheme = "https"
		Certificates(t, s.Dir)
		cert, err := tls.LoadX509KeyPair(s.Path("gateway.pem"), s.Path("gateway.key"))
		if err != nil {
			t.Fatal(err)
		}
		s.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}}} //nolint:gosec // made a line above
		s.args = []string{"--cert-file", s.Path("server.pem"), "--key-file", s.Path("server.key"), "--trusted-ca-file", s.Path("ca.pem"), "--client-cert-auth"}
	}
	s.URL = scheme + "://127.0.0.1:" + s.Port
	peer := "http://127.0.0.1:" + FreePort(t)
	s.args = append(append(s.args, "--data-dir", s.Path("etcd"), "--unsafe-no-fsync", "--listen-client-urls", scheme+"://0.0.0.0:"+s.Port,
		"--advertise-client-urls", s.URL, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer,
		"--log-level", "warn"), o.Args...)
	s.Resume()
	return s
}

// Path is a file of the server's directory.
func (s *Server) Path(name string) string { return filepath.Join(s.Dir, name) }

// Pause kills etcd, as a power cut would.
func (s *Server) Pause() { s.process.Kill() }

// Resume starts etcd, after Pause, and waits until it answers.
func (s *Server) Resume() {
	s.t.Helper()
	s.process = Run(s.t, s.Path("etcd.log"), Program(s.t, "etcd"), s.args...)
	deadline := time.Now().Add(time.Minute)
	for {
		answer, err := s.client.Get(s.URL + "/health")
		if err == nil {
			body, _ := io.ReadAll(answer.Body)
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return
			}
			err = fmt.Errorf("%s: %s", answer.Status, body)
		}
		if time.Now().After(deadline) || s.process.Ended() {
			s.t.Fatalf("etcd does not answer: %v\n%s", err, Tail(s.Path("etcd.log")))
		}
		<-time.After(20 * time.Millisecond)
	}
}

// Do sends a request to etcd's JSON gateway, such as Do("kv/range", body), and reads the answer.
func (s *Server) Do(path, body string, answer any) {
	s.t.Helper()
	r, err := http.NewRequest(http.MethodPost, s.URL+"/v3/"+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if s.token != "" {
		r.Header.Set("Authorization", s.token)
	}
	got, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil || got.StatusCode != http.StatusOK {
		s.t.Fatalf("%s %s: %s: %s (%v)", path, body, got.Status, text, err)
	}
	if answer == nil {
		return
	}
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(answer); err != nil {
		s.t.Fatalf("%s: %s: %v", path, text, err)
	}
}

// Login has Do ask as a user.
func (s *Server) Login(user, password string) {
	s.t.Helper()
	var answer struct{ Token string }
	s.Do("auth/authenticate", fmt.Sprintf(`{"name":%q,"password":%q}`, user, password), &answer)
	s.token = answer.Token
}

// Bytes is a text as the JSON gateway wants it.
func Bytes(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// Put writes a key, with a lease or, where that is 0, without.
func (s *Server) Put(key, value string, lease int64) {
	s.t.Helper()
	s.Do("kv/put", fmt.Sprintf(`{"key":%q,"value":%q,"lease":"%d"}`, Bytes(key), Bytes(value), lease), nil)
}

// Delete deletes a key.
func (s *Server) Delete(key string) {
	s.t.Helper()
	s.Do("kv/deleterange", fmt.Sprintf(`{"key":%q}`, Bytes(key)), nil)
}

// Grant makes a lease of so many seconds.
func (s *Server) Grant(seconds int) int64 {
	s.t.Helper()
	var answer struct {
		ID int64 `json:",string"`
	}
	s.Do("lease/grant", fmt.Sprintf(`{"TTL":"%d"}`, seconds), &answer)
	return answer.ID
}

// Key is a key as etcd has it.
type Key struct {
	Key, Value     []byte
	Lease          int64 `json:",string"`
	CreateRevision int64 `json:"create_revision,string"`
	ModRevision    int64 `json:"mod_revision,string"`
}

// Keys are those that begin with prefix, by key.
func (s *Server) Keys(prefix string) map[string]Key {
	s.t.Helper()
	end := []byte(prefix)
	end[len(end)-1]++
	var answer struct{ Kvs []Key }
	s.Do("kv/range", fmt.Sprintf(`{"key":%q,"range_end":%q}`, Bytes(prefix), Bytes(string(end))), &answer)
	all := map[string]Key{}
	for _, k := range answer.Kvs {
		all[string(k.Key)] = k
	}
	return all
}

// Compact throws away what is older than the newest revision.
func (s *Server) Compact() {
	s.t.Helper()
	var now struct {
		Header struct {
			Revision int64 `json:",string"`
		}
	}
	s.Do("kv/range", fmt.Sprintf(`{"key":%q}`, Bytes("x")), &now)
	s.Do("kv/compaction", fmt.Sprintf(`{"revision":"%d","physical":true}`, now.Header.Revision), nil)
}

var started = regexp.MustCompile(`(?m)^grpc_server_started_total\{grpc_method="([^"]+)".*\} (\S+)$`)

// Requests are those that etcd was sent since it started, by method (Range, Txn, Watch). Those of the JSON gateway count as well.
func (s *Server) Requests() map[string]int {
	s.t.Helper()
	answer, err := s.client.Get(s.URL + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	all := map[string]int{}
	for _, m := range started.FindAllStringSubmatch(string(text), -1) {
		n, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			s.t.Fatal(err)
		}
		all[m[1]] += int(n)
	}
	return all
}

// Tail is the end of a log.
func Tail(path string) string {
	b, _ := os.ReadFile(path)
	return string(b[max(0, len(b)-2000):])
}
