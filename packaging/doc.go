// Package packaging pins, in its go.mod, what is shipped beside towpath's own programs: the reference
// CNI plugins portmap, bandwidth and loopback, built from their module by `make build`.
package packaging
