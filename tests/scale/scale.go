// Package scale measures a node's part in a large cluster: thousands of Node and Pod objects on a real API server, the
// real programs in a namespace, and flanneld on the same objects where PEER_FLANNELD names it.
package scale
