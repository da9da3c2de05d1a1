// Package change tests nodes that `towpath supervise` runs while their configuration, their addresses and their interfaces
// change, with traffic between pods.
package change
