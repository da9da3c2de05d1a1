package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// options are what an image is made of.
type options struct {
	arches                                             []string
	programs, cni, share, cache, output, name, version string
}

// make writes the archive, and says how large what became.
func (o options) make(ctx context.Context) error {
	var images []v1.Image
	for _, arch := range o.arches {
		image, err := o.one(ctx, arch)
		if err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
		images = append(images, image)
	}
	return writeArchive(o.output, o.name, images)
}

// one makes the image of an architecture. Debian's part is the lower layer: it changes seldom.
func (o options) one(ctx context.Context, arch string) (v1.Image, error) {
	packages, err := fetch(ctx, filepath.Join(o.cache, arch), arch)
	if err != nil {
		return nil, err
	}
	system, err := systemFiles(packages)
	if err != nil {
		return nil, err
	}
	own, err := o.ownFiles(arch)
	if err != nil {
		return nil, err
	}
	image, err := assemble(arch, o.version, system, own)
	if err != nil {
		return nil, err
	}
	return image, report(arch, image, system, own)
}

// Where things are in the image.
const (
	programDir   = "usr/bin"
	pluginDir    = "usr/lib/towpath/cni" // installed on the node by cni-bridge install
	stageDir     = "usr/lib/towpath/stages.d"
	uninstallDir = "usr/lib/towpath/uninstall.d"
)

// ownFiles are towpath's programs, the CNI plugins and the stage files.
func (o options) ownFiles(arch string) (tree, error) {
	t := tree{}
	dir := filepath.Join(o.programs, arch)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	plugins := strings.Split(o.cni, ",")
	for _, e := range entries {
		if e.IsDir() {
			continue // addFlannel's
		}
		data, err := program(filepath.Join(dir, e.Name()), arch)
		if err != nil {
			return nil, err
		}
		place := programDir
		if i := slices.Index(plugins, e.Name()); i >= 0 {
			plugins = slices.Delete(plugins, i, i+1)
			place = pluginDir
		}
		t.add(path.Join(place, e.Name()), 0o755, data)
	}
	if len(plugins) > 0 {
		return nil, fmt.Errorf("no %s in %q", strings.Join(plugins, ", "), dir)
	}
	// The stage that writes the CNI configuration runs the plugin by name.
	t.link(programDir+"/cni-bridge", "/"+pluginDir+"/cni-bridge")
	for from, to := range map[string]string{"stages.d": stageDir, "image/uninstall.d": uninstallDir} {
		if err := t.addDir(filepath.Join(o.share, from), to); err != nil {
			return nil, err
		}
	}
	return t, o.addFlannel(t, arch)
}

// program reads a program, which has to run in the image.
func program(path, arch string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if err := isStatic(data, arch); err != nil {
		return nil, fmt.Errorf("program %q: %w", path, err)
	}
	return data, nil
}

func (t tree) addDir(from, to string) error {
	return fs.WalkDir(os.DirFS(from), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(from, name))
		if err == nil {
			t.add(path.Join(to, name), 0o644, data)
		}
		return err
	})
}
