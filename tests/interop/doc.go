// Package interop holds towpath beside the real flanneld: nodes of both on one etcd, in network namespaces. flannel's programs are
// no part of this repository: the tests have the build tag peer, and PEER_FLANNEL_DIR names a directory with flanneld and
// cni/{flannel,bridge,host-local} (`make interop`). docs/INTEROP.md has what they print.
package interop
