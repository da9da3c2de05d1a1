//go:build netns

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

const top = "../.."

// build makes an archive of what make build left, in Debian's architecture of this machine.
func build(t *testing.T, programs string) []byte {
	t.Helper()
	o := options{
		arches: []string{runtime.GOARCH}, programs: programs, cni: "cni-bridge,portmap,bandwidth,loopback", share: filepath.Join(top, "packaging"),
		cache: filepath.Join(top, ".cache", "image"), output: filepath.Join(t.TempDir(), "image.tar"), name: "localhost/towpath:test", version: "test",
	}
	if err := o.make(t.Context()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(o.output)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// built copies some programs of bin to where image expects them: all would take long to compress.
func built(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, runtime.GOARCH, "flannel"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"towpath", "cni-bridge", "portmap", "bandwidth", "loopback"} {
		data, err := os.ReadFile(filepath.Join(top, "bin", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, runtime.GOARCH, name), data, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(dir, runtime.GOARCH, "flannel")+"/", "./flannel/...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// TestImage: the same inputs give the same bytes, and what is in the image runs there.
func TestImage(t *testing.T) {
	programs := built(t)
	archive := build(t, programs)
	if !bytes.Equal(archive, build(t, programs)) {
		t.Error("two builds differ")
	}
	root := t.TempDir()
	unpackImage(t, archive, root)
	run := func(stdin string, args ...string) string {
		t.Helper()
		cmd := exec.Command("unshare", append([]string{"--net", "chroot", root}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	const table = "table inet x {\n\tchain y {\n\t\ttype filter hook forward priority filter; policy accept;\n\t\tip protocol esp counter accept\n\t}\n}\n"
	run(table, "/usr/sbin/nft", "-f", "-")
	if out := run("", "/usr/sbin/iptables-nft", "-S"); !strings.Contains(out, "-P FORWARD ACCEPT") {
		t.Errorf("iptables-nft: %s", out)
	}
	if out := run("", "/usr/bin/towpath", "graph"); !strings.Contains(out, "SUBNET-LEASE") {
		t.Errorf("graph: %s", out)
	}
	if out := run("", "/usr/bin/cni-bridge", "install", "plan", "--from", "/usr/lib/towpath/cni"); strings.Count(out, "install -m 755") != 4 {
		t.Errorf("install: %s", out)
	}
	// As flannel's manifests have it.
	if err := os.MkdirAll(filepath.Join(root, "opt/cni/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	run("", "/usr/bin/cp", "-f", "/flannel", "/opt/cni/bin/flannel")
	run("", "/opt/bin/install-conf", "/usr/lib/towpath/stages.d/cni-conf.toml", "/opt/cni/copy")
	if out := run("", "/opt/cni/bin/flannel", "--help"); !strings.Contains(out, "cni-bridge") {
		t.Errorf("the CNI plugin: %s", out)
	}
	if out := run("", "/opt/bin/flanneld", "--help"); !strings.Contains(out, "TOWPATH_IFACE_REGEX") {
		t.Errorf("flanneld: %s", out)
	}
	for _, name := range []string{"bin/sh", "usr/bin/sh", "usr/bin/apt-get"} {
		if _, err := os.Lstat(filepath.Join(root, name)); err == nil {
			t.Errorf("%s is in the image", name)
		}
	}
}

// unpackImage unpacks the layers as a runtime does, found by the way that it takes: index, manifest, layers.
func unpackImage(t *testing.T, archive []byte, root string) {
	t.Helper()
	files := map[string][]byte{}
	each(t, bytes.NewReader(archive), func(h *tar.Header, r io.Reader) error {
		data, err := io.ReadAll(r)
		files[h.Name] = data
		return err
	})
	type descriptor struct{ Digest string }
	var index struct {
		Manifests []struct {
			descriptor
			Annotations map[string]string
		}
	}
	var manifest struct{ Layers []descriptor }
	blob := func(d descriptor) []byte { return files["blobs/"+strings.Replace(d.Digest, ":", "/", 1)] }
	if err := json.Unmarshal(files["index.json"], &index); err != nil {
		t.Fatal(err)
	}
	if len(index.Manifests) != 1 || index.Manifests[0].Annotations["io.containerd.image.name"] != "localhost/towpath:test" {
		t.Fatalf("index: %s", files["index.json"])
	}
	if err := json.Unmarshal(blob(index.Manifests[0].descriptor), &manifest); err != nil {
		t.Fatal(err)
	}
	for _, layer := range manifest.Layers {
		z, err := gzip.NewReader(bytes.NewReader(blob(layer)))
		if err != nil {
			t.Fatal(err)
		}
		each(t, z, func(h *tar.Header, r io.Reader) error {
			path := filepath.Join(root, h.Name)
			switch h.Typeflag {
			case tar.TypeDir:
				return os.MkdirAll(path, 0o755)
			case tar.TypeSymlink:
				return os.Symlink(h.Linkname, path)
			}
			data, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			return os.WriteFile(path, data, os.FileMode(h.Mode))
		})
	}
}

func each(t *testing.T, r io.Reader, do func(*tar.Header, io.Reader) error) {
	t.Helper()
	for a := tar.NewReader(r); ; {
		h, err := a.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err == nil {
			err = do(h, a)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
