package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// programs are the files of Debian's that are wanted; what they are linked with follows. nft is as policy-load and
// people use it; the four iptables are links to two programs that hold them all.
var programs = regexp.MustCompile(`^usr/sbin/(nft|(iptables|ip6tables)-(nft|legacy)(-restore)?)$`)

// extension is what iptables loads at run time for each match and target in the rules it lists: others' rules in
// the FORWARD chain can have any of them.
var extension = regexp.MustCompile(`^usr/lib/[^/]+/xtables/lib(xt|ipt|ip6t)_[A-Za-z0-9]+\.so$`)

// plain are files that are wanted as they are. The licences ask for the copyright files.
var plain = regexp.MustCompile(`^(etc/protocols|usr/lib/os-release|usr/share/doc/[^/]+/copyright)$`)

// systemFiles are the files of the packages that nft and iptables need, no others, with /etc/passwd and what tells
// a scanner which packages they are of.
func systemFiles(debs []string) (tree, error) {
	all, out := tree{}, tree{}
	for _, deb := range debs {
		files, control, err := unpack(deb)
		if err != nil {
			return nil, err
		}
		maps.Copy(all, files)
		name, _, _ := strings.Cut(path.Base(deb), "_")
		out.add("var/lib/dpkg/status.d/"+name, 0o644, control)
	}
	var missing []error
	for _, name := range slices.Sorted(maps.Keys(all)) {
		switch {
		case programs.MatchString(name) || extension.MatchString(name):
			missing = append(missing, take(all, out, name))
		case plain.MatchString(name):
			if to, f, ok := all.resolve(name); ok && to == name {
				out[name] = f
			}
		}
	}
	for _, name := range []string{"usr/sbin/nft", "usr/sbin/iptables-nft", "usr/sbin/ip6tables-legacy-restore", "etc/protocols", "usr/lib/os-release"} {
		if _, ok := out[name]; !ok {
			missing = append(missing, fmt.Errorf("no %s in Debian's packages", name))
		}
	}
	out.link("etc/os-release", "../usr/lib/os-release")
	out.add("etc/passwd", 0o644, []byte("root:x:0:0:root:/:/usr/sbin/nologin\n"))
	out.add("etc/group", 0o644, []byte("root:x:0:\n"))
	return out, errors.Join(missing...)
}

// take moves a file into out, with the links on the way and all the libraries and the interpreter that it needs.
func take(all, out tree, name string) error {
	if _, ok := out[name]; ok {
		return nil
	}
	for all[name].link != "" {
		out[name] = all[name]
		if strings.HasPrefix(all[name].link, "/") {
			name = strings.TrimPrefix(path.Clean(all[name].link), "/")
		} else {
			name = path.Join(path.Dir(name), all[name].link)
		}
	}
	f, ok := all[name]
	if !ok {
		return fmt.Errorf("%s is in none of Debian's packages: add the one that has it", name)
	}
	if _, done := out[name]; done {
		return nil
	}
	out[name] = f
	libraries, interpreter, err := linked(f.data)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	var errs []error
	if interpreter != "" {
		errs = append(errs, take(all, out, strings.TrimPrefix(interpreter, "/")))
	}
	for _, library := range libraries {
		place, ok := find(all, library)
		if !ok {
			errs = append(errs, fmt.Errorf("%s needs %s, which is in none of Debian's packages: add the one that has it", name, library))
			continue
		}
		errs = append(errs, take(all, out, place))
	}
	return errors.Join(errs...)
}

// find looks for a library where the loader does.
func find(all tree, library string) (string, bool) {
	var found []string
	for name := range all {
		if path.Base(name) == library && libraryDir.MatchString(path.Dir(name)) {
			found = append(found, name)
		}
	}
	if len(found) == 0 {
		return "", false
	}
	return slices.Min(found), true
}

var libraryDir = regexp.MustCompile(`^(usr/)?lib(64)?(/[a-z0-9_]+-linux-gnu[a-z0-9]*)?$`)

// linked are the libraries that an ELF file names, and its interpreter.
func linked(data []byte) (libraries []string, interpreter string, err error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, "", err
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		text := make([]byte, p.Filesz)
		if _, err := p.ReadAt(text, 0); err != nil {
			return nil, "", err
		}
		interpreter = string(bytes.TrimRight(text, "\x00"))
	}
	libraries, err = f.ImportedLibraries()
	return libraries, interpreter, err
}

// machines are the architectures by Go's names.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// isStatic refuses a program that is for another machine, or would not run in an image without libraries.
func isStatic(data []byte, arch string) error {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return err
	}
	if want, ok := machines[arch]; !ok || f.Machine != want {
		return fmt.Errorf("is for %s, not for %s", f.Machine, arch)
	}
	if libraries, interpreter, err := linked(data); err != nil || interpreter != "" || len(libraries) > 0 {
		return errors.Join(err, errors.New("is not static: build it with CGO_ENABLED=0"))
	}
	return nil
}
