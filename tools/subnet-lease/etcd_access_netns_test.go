//go:build netns

package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/etcdtest"
)

// TestEtcdAccess: TLS with client certificates, and a user with flannel's rights and no more, against an etcd that asks for both.
func TestEtcdAccess(t *testing.T) {
	s := &etcdSite{etcdtest.Start(t, etcdtest.Options{TLS: true}), t}
	s.Put(prefix+"config", plain, 0)
	end := func(text string) string { return text[:len(text)-1] + string(text[len(text)-1]+1) }
	for _, r := range [][2]string{
		{"auth/user/add", `{"name":"root","password":"r"}`},
		{"auth/role/add", `{"name":"root"}`},
		{"auth/user/grant", `{"user":"root","role":"root"}`},
		{"auth/user/add", `{"name":"flannel","password":"secret"}`},
		{"auth/role/add", `{"name":"flannel"}`},
		{"auth/user/grant", `{"user":"flannel","role":"flannel"}`},
		{"auth/user/add", `{"name":"nobody","password":"secret"}`},
		{"auth/role/grant", fmt.Sprintf(`{"name":"flannel","perm":{"permType":"READ","key":%q}}`, etcdtest.Bytes(prefix+"config"))},
		{"auth/role/grant", fmt.Sprintf(`{"name":"flannel","perm":{"permType":"READWRITE","key":%q,"range_end":%q}}`, etcdtest.Bytes(prefix+"subnets/"), etcdtest.Bytes(end(prefix+"subnets/")))},
		{"auth/enable", `{}`},
	} {
		s.Do(r[0], r[1], nil)
	}
	s.Login("root", "r")
	a := newMember(t, "a", 1, "etcds://127.0.0.1:"+s.Port)
	a.netConf = ""
	base := a.env
	ca, cert, key := "TOWPATH_ETCD_CAFILE="+s.Path("ca.pem"), "TOWPATH_ETCD_CERTFILE="+s.Path("client.pem"), "TOWPATH_ETCD_KEYFILE="+s.Path("client.key")
	password := s.Path("password")
	write(t, password, "wrong\n")
	as := func(more ...string) { a.env = append(base[:len(base):len(base)], more...) }
	fails := func(code int, words string) {
		t.Helper()
		got, _, errs := a.exec("apply")
		if got != code || !strings.Contains(errs, words) || strings.Contains(errs, "secret") {
			t.Errorf("exit status %d, want %d %q\n%s", got, code, words, errs)
		}
	}
	as(cert, key)
	fails(69, "x509: ") // the system's certificates know no such CA
	as(ca)
	fails(69, "hint: does the server want a client certificate?")
	as(ca, cert, key)
	fails(77, "permission denied") // the certificate's name is a user that does not exist
	as(ca, cert, key, "TOWPATH_ETCD_USERNAME=flannel", "TOWPATH_ETCD_PASSWORD=wrong")
	fails(77, "authentication failed")
	as(ca, cert, key, "TOWPATH_ETCD_USERNAME=nobody", "TOWPATH_ETCD_PASSWORD=secret")
	fails(77, "permission denied")
	plainText := *a
	plainText.store = "etcd://127.0.0.1:" + s.Port
	plainText.env = base
	if code, _, errs := plainText.exec("apply"); code != 69 || !strings.Contains(errs, "hint: does the server speak TLS? Then write etcds://") {
		t.Errorf("without TLS: %d, %s", code, errs)
	}

	as(ca, cert, key, "TOWPATH_ETCD_USERNAME=flannel", "TOWPATH_ETCD_PASSWORD=secret")
	if got := a.must("apply"); !strings.HasPrefix(got, "acquire 10.244.0.0/24 for a\n") || a.must("apply") != "" {
		t.Errorf("apply printed\n%s", got)
	}
	if got := a.must("list"); !strings.Contains(got, "leased") {
		t.Errorf("list printed\n%s", got)
	}

	// The password is another one, and then again; etcd is started anew, which forgets its tokens.
	as(ca, cert, key, "TOWPATH_ETCD_USERNAME=flannel", "TOWPATH_ETCD_PASSWORD_FILE="+password)
	log, cmd := a.watch()
	eventually(t, "watch says that the password is wrong", func() bool { return strings.Contains(log.String(), "authentication failed") })
	write(t, password, "secret\n")
	s.peerKey("10.244.5.0-24", vxlan(5))
	within(t, limit, "the right password counts", func() bool { return exists(a.run.Peer("192.168.7.5")) })
	s.Pause()
	s.Resume()
	s.Login("root", "r")
	s.peerKey("10.244.6.0-24", vxlan(6))
	within(t, limit, "a new token is asked for", func() bool { return exists(a.run.Peer("192.168.7.6")) })
	a.link("vxlan", fmt.Sprintf(vtep, 1))
	eventually(t, "and changes are made with it", func() bool { return s.value("10.244.0.0-24") == vxlan(1) })
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", cmd.Process.Pid))
	if err != nil || strings.Contains(string(args), "secret") || strings.Contains(log.String(), "secret") {
		t.Errorf("the password is where everybody sees it: %q, %v", args, err)
	}
	if got := a.must("release", "--node", "192.168.7.6"); got != "release 10.244.6.0/24 of 192.168.7.6\n" {
		t.Errorf("release printed %q", got)
	}
}
