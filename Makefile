# towpath: `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
BACKEND ?= vxlan
PREFIX  ?= /usr
DESTDIR ?=

export CGO_ENABLED := 0
TAGS    := urfave_cli_no_docs
LDFLAGS := -s -w -X github.com/towpath/towpath/lib/version.Version=$(VERSION)
BUILD   := go build -trimpath -tags $(TAGS) -ldflags '$(LDFLAGS)'

TOOLS   := $(notdir $(wildcard tools/*))
PLUGINS := portmap bandwidth loopback
MODULES := lib packaging supervisor tests tests/oracle $(addprefix tools/,$(TOOLS))

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## install what the machine lacks (as root)
	@scripts/setup

.PHONY: build
build: ## every program into bin/
	@mkdir -p bin
	$(BUILD) -o bin/ $(addprefix ./tools/,$(TOOLS))
	$(BUILD) -o bin/towpath ./supervisor
	$(BUILD) -o bin/ $(foreach p,$(PLUGINS),github.com/containernetworking/plugins/plugins/$(if $(filter loopback,$(p)),main,meta)/$(p))

bin/tests/cnitool bin/tests/pod: $(wildcard tests/cmd/*/*.go) tests/go.mod
	@mkdir -p bin/tests
	$(BUILD) -o bin/tests/cnitool github.com/containernetworking/cni/cnitool
	$(BUILD) -o bin/tests/pod ./tests/cmd/pod

.PHONY: demo
demo: setup build bin/tests/cnitool bin/tests/pod ## three nodes and their pods, on this machine; BACKEND=vxlan|vxlan-direct|host-gw KEEP=1
	@scripts/demo $(BACKEND)

.PHONY: test
test: setup build bin/tests/cnitool bin/tests/pod ## all tests, as root, in namespaces of their own
	scripts/test

.PHONY: lint
lint: ## golangci-lint, gofmt, shellcheck, shfmt, generated files
	scripts/lint

.PHONY: generate
generate: ## docs/FILES.md from lib/state
	go run ./lib/state/filesdoc > docs/FILES.md.new && mv docs/FILES.md.new docs/FILES.md

.PHONY: bench
bench: setup build ## benchmarks, as root; PEER_CNI_BIN=DIR measures another CNI chain beside
	scripts/bench

.PHONY: install
install: build ## into DESTDIR: programs, CNI plugins, stage files, systemd unit
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)/opt/cni/bin $(DESTDIR)/usr/lib/towpath/stages.d \
	  $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)/etc/towpath/stages.d
	install -m 755 $(addprefix bin/,$(filter-out cni-bridge,$(TOOLS)) towpath) $(DESTDIR)$(PREFIX)/bin/
	install -m 755 $(addprefix bin/,cni-bridge $(PLUGINS)) $(DESTDIR)/opt/cni/bin/
	ln -sf /opt/cni/bin/cni-bridge $(DESTDIR)$(PREFIX)/bin/cni-bridge
	install -m 644 packaging/stages.d/*.toml $(DESTDIR)/usr/lib/towpath/stages.d/
	sed 's|^ExecStart=/usr/bin/|ExecStart=$(PREFIX)/bin/|' packaging/systemd/towpath.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/towpath.service

.PHONY: tidy
tidy: ## go mod tidy in every module
	for m in $(MODULES); do (cd $$m && GOWORK=off go mod tidy); done

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist .cache
