package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// assemble makes an image of layers, the lowest first.
func assemble(arch, version string, layers ...tree) (v1.Image, error) {
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, t := range layers {
		data, err := t.tar()
		if err != nil {
			return nil, err
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
			tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.BestCompression))
		if err != nil {
			return nil, err
		}
		if image, err = mutate.Append(image, mutate.Addendum{Layer: layer, MediaType: types.OCILayer}); err != nil {
			return nil, err
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	config.Created = v1.Time{Time: epoch}
	config.History = nil
	config.Config = v1.Config{
		Entrypoint: []string{"/usr/bin/towpath"}, Cmd: []string{"supervise"},
		Env: []string{"PATH=/usr/sbin:/usr/bin"}, WorkingDir: "/",
		Labels: map[string]string{
			"org.opencontainers.image.title":       "towpath",
			"org.opencontainers.image.description": "the network between the pods of the nodes, with NetworkPolicy",
			"org.opencontainers.image.version":     version,
		},
	}
	return mutate.ConfigFile(image, config)
}

// writeArchive writes an OCI image layout as one tar, with the list that docker load wants beside it.
func writeArchive(path, name string, images []v1.Image) error {
	blobs := map[string][]byte{}
	var top []v1.Descriptor
	var docker []map[string]any
	for _, image := range images {
		d, list, err := addImage(blobs, image)
		if err != nil {
			return err
		}
		top = append(top, d)
		list["RepoTags"] = []string{name}
		docker = append(docker, list)
	}
	root := top[0]
	if len(images) > 1 {
		index, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: top})
		if err != nil {
			return err
		}
		hash, size, err := v1.SHA256(bytes.NewReader(index))
		if err != nil {
			return err
		}
		blobs[blobPath(hash)] = index
		root = v1.Descriptor{MediaType: types.OCIImageIndex, Digest: hash, Size: size}
	}
	root.Annotations = map[string]string{"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name[strings.LastIndex(name, ":")+1:]}
	for file, v := range map[string]any{
		"index.json":    v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{root}},
		"oci-layout":    map[string]string{"imageLayoutVersion": "1.0.0"},
		"manifest.json": docker[:1], // docker load knows one architecture
	} {
		data, err := json.Marshal(v)
		if err != nil {
			return err
		}
		blobs[file] = data
	}
	return writeTar(path, blobs)
}

func blobPath(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

// addImage adds an image's blobs, and returns what an index and docker's list say of it.
func addImage(blobs map[string][]byte, image v1.Image) (v1.Descriptor, map[string]any, error) {
	manifest, err := image.Manifest()
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	raw, err := image.RawManifest()
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	hash, size, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	blobs[blobPath(hash)] = raw
	config, err := image.RawConfigFile()
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	blobs[blobPath(manifest.Config.Digest)] = config
	layers, err := image.Layers()
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	var paths []string
	for i, l := range layers {
		r, err := l.Compressed()
		if err != nil {
			return v1.Descriptor{}, nil, err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return v1.Descriptor{}, nil, err
		}
		place := blobPath(manifest.Layers[i].Digest)
		blobs[place] = data
		paths = append(paths, place)
	}
	file, err := image.ConfigFile()
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	return v1.Descriptor{
		MediaType: manifest.MediaType, Digest: hash, Size: size,
		Platform: &v1.Platform{OS: file.OS, Architecture: file.Architecture},
	}, map[string]any{"Config": blobPath(manifest.Config.Digest), "Layers": paths}, nil
}

// writeTar writes files, sorted, to path in one rename.
func writeTar(path string, files map[string][]byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".image-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails after the rename, as it should
	w := tar.NewWriter(tmp)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(files[name])), ModTime: epoch, Format: tar.FormatUSTAR}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := w.Write(files[name]); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := tmp.Chmod(0o644); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// report prints what an image holds, and how large it is.
func report(arch string, image v1.Image, system, own tree) error {
	manifest, err := image.Manifest()
	if err != nil {
		return err
	}
	const mib = 1 << 20
	compressed := int64(0)
	for _, l := range manifest.Layers {
		compressed += l.Size
	}
	fmt.Printf("image for %s: %.1f MiB to pull, %.1f MiB unpacked: nft, iptables and libraries %.1f MiB (%d files), towpath %.1f MiB (%d files)\n",
		arch, float64(compressed)/mib, float64(system.size()+own.size())/mib, float64(system.size())/mib, len(system), float64(own.size())/mib, len(own))
	return nil
}
