module github.com/towpath/towpath/tests

go 1.26.0

replace github.com/towpath/towpath/lib => ../lib

require (
	github.com/BurntSushi/toml v1.6.0
	github.com/google/go-cmp v0.7.0
	github.com/towpath/towpath/lib v0.0.0
	golang.org/x/sys v0.49.0
)

require (
	github.com/containernetworking/cni v1.3.1 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/rogpeppe/go-internal v1.16.0 // indirect
	github.com/spf13/cobra v1.9.1 // indirect
	github.com/spf13/pflag v1.0.6 // indirect
	go.opentelemetry.io/otel v1.29.0 // indirect
	go.opentelemetry.io/otel/trace v1.29.0 // indirect
	golang.org/x/tools v0.26.0 // indirect
)

tool github.com/containernetworking/cni/cnitool
