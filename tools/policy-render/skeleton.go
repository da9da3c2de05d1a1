package main

import (
	"errors"
	"io/fs"
	"os"
)

// close writes rules that let no pod of this node do anything, where there are none at all: after a boot the API server
// may be away for long. Rules of an earlier run, on disk or in the kernel, stay as they are until all objects are
// known.
func (w *watcher) close() error {
	for _, path := range []string{w.dir.PolicyNFT(), w.dir.PolicyLoaded()} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	empty := newWorld(w.world.node, w.world.config)
	for _, e := range w.world.endpoints {
		empty.setEndpoint(e)
	}
	empty.checkBridges()
	empty.commit()
	_, err := w.writer.write(empty.manifest(), empty.again(empty.config), true)
	if err == nil {
		w.env.Log.Info("all pods are closed until their policies are known", "generation", w.writer.generation)
	}
	return err
}
