package apitest

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/towpath/towpath/lib/etcdtest"
)

// storeMax is how many changes etcd takes at once.
const storeMax = 100

// Store puts objects, as JSON by key ("/registry/pods/NAMESPACE/NAME"), into etcd, past what the API server checks and fills
// in: objects of an older Kubernetes, or more of them than could be sent one by one. The API server hears
// of them as of any other change.
func (s *Server) Store(objects map[string]string) {
	s.t.Helper()
	type put struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	}
	type op struct {
		RequestPut put `json:"requestPut"`
	}
	for keys := range slices.Chunk(slices.Sorted(maps.Keys(objects)), storeMax) {
		var txn struct {
			Success []op `json:"success"`
		}
		for _, k := range keys {
			txn.Success = append(txn.Success, op{put{etcdtest.Bytes(k), etcdtest.Bytes(objects[k])}})
		}
		body, err := json.Marshal(txn)
		if err != nil {
			s.t.Fatal(err)
		}
		s.etcd.Do("kv/txn", string(body), nil)
	}
}
