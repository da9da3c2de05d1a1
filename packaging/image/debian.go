package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// packages are Debian's packages that the system's files are taken from. iptables is for masq-sync, which opens the
// FORWARD chains that others closed by it; netbase has /etc/protocols, in whose words nft reads and prints rules;
// base-files tells vulnerability scanners what the rest is.
var packages = []string{
	"nftables", "libnftables1", "libnftnl11", "libmnl0", "libjansson4", "libgmp10", "libedit2", "libtinfo6", "libbsd0", "libmd0", "libc6",
	"iptables", "libxtables12", "libip4tc2", "libip6tc2", "libnetfilter-conntrack3", "libnfnetlink0", "netbase", "base-files",
}

// stale is when Debian's lists are asked for anew.
const stale = 24 * time.Hour

// fetch downloads the packages for an architecture into dir and returns their files. apt-get verifies Debian's
// signatures; its state is kept in dir, so that nothing of this machine's package management changes.
func fetch(ctx context.Context, dir, arch string) ([]string, error) {
	debs := filepath.Join(dir, "debs")
	stamp := filepath.Join(debs, ".complete")
	if info, err := os.Stat(stamp); err == nil && time.Since(info.ModTime()) < stale {
		have, err := filepath.Glob(filepath.Join(debs, "*.deb"))
		if err == nil && len(have) == len(packages) {
			return have, nil
		}
	}
	apt, err := aptArgs(ctx, dir, arch)
	if err != nil {
		return nil, err
	}
	if err := os.RemoveAll(debs); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(debs, 0o755); err != nil {
		return nil, err
	}
	if _, err := output(ctx, "", "apt-get", append(apt, "update")...); err != nil {
		return nil, err
	}
	if _, err := output(ctx, debs, "apt-get", slices.Concat(apt, []string{"download"}, packages)...); err != nil {
		return nil, fmt.Errorf("fetch Debian's packages: %w", err)
	}
	have, err := filepath.Glob(filepath.Join(debs, "*.deb"))
	if err != nil {
		return nil, err
	}
	if len(have) != len(packages) {
		return nil, fmt.Errorf("fetch Debian's packages: %d files for %d packages in %q", len(have), len(packages), debs)
	}
	return have, os.WriteFile(stamp, nil, 0o644)
}

// debian names the architectures as Debian does, where it does otherwise than Go.
var debian = map[string]string{"386": "i386", "arm": "armhf", "ppc64le": "ppc64el"}

func debianArch(arch string) string {
	if name, ok := debian[arch]; ok {
		return name
	}
	return arch
}

// aptArgs are the options that make apt-get work for an architecture with a state of its own. The archives
// are those that this machine uses.
func aptArgs(ctx context.Context, dir, arch string) ([]string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	targets, err := output(ctx, "", "apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages", "Origin: Debian")
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSpace(targets), "\n")
	slices.Sort(lines)
	var sources strings.Builder
	for _, line := range slices.Compact(lines) {
		if line != "" {
			fmt.Fprintf(&sources, "deb [arch=%s signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s\n", debianArch(arch), line)
		}
	}
	if sources.Len() == 0 {
		return nil, errors.New("apt knows no archive of Debian: on a Debian machine, run apt-get update first")
	}
	for _, d := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	list, status := filepath.Join(dir, "sources.list"), filepath.Join(dir, "status")
	if err := errors.Join(os.WriteFile(list, []byte(sources.String()), 0o644), os.WriteFile(status, nil, 0o644)); err != nil {
		return nil, err
	}
	var args []string
	for _, o := range []string{
		"APT::Architecture=" + debianArch(arch), "APT::Architectures=" + debianArch(arch), "Dir::State=" + dir, "Dir::State::status=" + status,
		"Dir::Cache=" + filepath.Join(dir, "cache"), "Dir::Etc::sourcelist=" + list, "Dir::Etc::sourceparts=-",
		"APT::Sandbox::User=root", "Acquire::Languages=none", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
		"Acquire::Retries=3", "APT::Update::Error-Mode=any",
	} {
		args = append(args, "-o", o)
	}
	return append(args, "-q"), nil
}

// unpack reads the files of a package, and its control file.
func unpack(deb string) (tree, []byte, error) {
	control, err := output(context.Background(), "", "dpkg-deb", "-f", deb)
	if err != nil {
		return nil, nil, err
	}
	data, err := output(context.Background(), "", "dpkg-deb", "--fsys-tarfile", deb)
	if err != nil {
		return nil, nil, err
	}
	t := tree{}
	for r := tar.NewReader(strings.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return t, []byte(control), nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read %q: %w", deb, err)
		}
		name := filepath.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			body, err := io.ReadAll(r)
			if err != nil {
				return nil, nil, fmt.Errorf("read %q: %w", deb, err)
			}
			t.add(name, h.FileInfo().Mode().Perm(), body)
		case tar.TypeSymlink:
			t.link(name, h.Linkname)
		}
	}
}

func output(ctx context.Context, dir, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", program, err, strings.Join(strings.Fields(stderr.String()), " "))
	}
	return stdout.String(), nil
}
