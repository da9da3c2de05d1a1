// Package policy tests NetworkPolicy end to end: the real programs as processes, the real kernel, pods that
// cni-bridge attached.
package policy
