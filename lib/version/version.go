// Package version holds the version that the linker writes into every program.
package version

// Version is set by `make build` with -ldflags -X; "devel" marks a plain `go build`.
var Version = "devel"
