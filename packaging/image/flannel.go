package main

import "path/filepath"

// flannelPrograms are what flannel's manifests start beside towpath's own programs, and where. They are in a directory of their
// own among the programs: nobody wants another cp in the path.
var flannelPrograms = map[string]string{
	"flanneld": "opt/bin/flanneld",
	"cp":       programDir + "/cp",
}

// addFlannel adds what makes the image stand in for flannel's two, that of flanneld and that of its CNI plugin.
func (o options) addFlannel(t tree, arch string) error {
	for name, place := range flannelPrograms {
		data, err := program(filepath.Join(o.programs, arch, "flannel", name), arch)
		if err != nil {
			return err
		}
		t.add(place, 0o755, data)
	}
	t.link("opt/bin/install-conf", "/"+programDir+"/cp")
	t.link("flannel", "/"+pluginDir+"/cni-bridge")
	return nil
}
