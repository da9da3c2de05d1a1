# towpath: `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
BACKEND ?= vxlan
STACK   ?= ipv4
PREFIX  ?= /usr
DESTDIR ?=

export CGO_ENABLED := 0
TAGS    := urfave_cli_no_docs
LDFLAGS := -s -w -X github.com/towpath/towpath/lib/version.Version=$(VERSION)
# -buildvcs=false: the version is linked in, and how the tree stands must not change the bytes.
BUILD   := go build -trimpath -buildvcs=false -tags $(TAGS) -ldflags '$(LDFLAGS)'

TOOLS   := $(notdir $(wildcard tools/*))
PLUGINS := portmap bandwidth loopback
MODULES := lib lib/kube packaging packaging/image packaging/kubernetes supervisor tests tests/oracle $(addprefix tools/,$(TOOLS))

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

ARCH       ?= $(shell go env GOARCH)
IMAGE      ?= localhost/towpath:devel
IMAGE_FILE ?= bin/towpath-image.tar
COMMA      := ,
ARCHES     := $(subst $(COMMA), ,$(ARCH))

.PHONY: image
image: $(addprefix image-programs-,$(ARCHES)) ## the container image into bin/towpath-image.tar; ARCH=amd64|arm64|amd64,arm64 IMAGE=NAME IMAGE_FILE=FILE
	go run ./packaging/image --arch $(ARCH) --name $(IMAGE) --output $(IMAGE_FILE) --version $(VERSION)

image-programs-%:
	@rm -rf bin/image/$* && mkdir -p bin/image/$*
	GOARCH=$* $(BUILD) -o bin/image/$*/ $(addprefix ./tools/,$(TOOLS)) $(foreach p,$(PLUGINS),github.com/containernetworking/plugins/plugins/$(if $(filter loopback,$(p)),main,meta)/$(p))
	GOARCH=$* $(BUILD) -o bin/image/$*/towpath ./supervisor
	@mkdir bin/image/$*/flannel
	GOARCH=$* $(BUILD) -o bin/image/$*/flannel/ ./packaging/image/flannel/...

.PHONY: demo
demo: setup build bin/tests/cnitool bin/tests/pod ## three nodes and their pods, on this machine; BACKEND=vxlan|vxlan-direct|host-gw|udp|wireguard STACK=ipv4|dual|ipv6 KEEP=1
	@scripts/demo $(BACKEND) $(STACK)

.PHONY: demo-all
demo-all: setup build bin/tests/cnitool bin/tests/pod ## the demo on every back end in every stack, a line each
	@scripts/demo-all

.PHONY: test
test: setup build bin/tests/cnitool bin/tests/pod cluster-api ## all tests, as root, in namespaces of their own
	scripts/test

.PHONY: cluster-api
cluster-api: ## etcd and kube-apiserver into bin/cluster, for the tests
	@tests/cluster/build api

CLUSTER ?= towpath
NODES   ?= 3
MODE    ?= daemonset
PROXY   ?= iptables

.PHONY: cluster-programs
cluster-programs:
	@scripts/setup containerd:containerd runc:runc /usr/lib/cni/loopback:containernetworking-plugins busybox:busybox-static/busybox openssl:openssl
	@tests/cluster/build nodes

.PHONY: cluster
cluster: setup cluster-programs $(if $(filter daemonset,$(MODE)),image)$(if $(filter supervise,$(MODE)),build) ## a Kubernetes cluster on this machine; MODE=daemonset|supervise|none PROXY=iptables|nftables NODES=3 CLUSTER=NAME AUDIT=1
	@CLUSTER=$(CLUSTER) NODES=$(NODES) MODE=$(MODE) PROXY=$(PROXY) tests/cluster/up

.PHONY: cluster-down
cluster-down: ## end it; CLUSTER=NAME
	@CLUSTER=$(CLUSTER) tests/cluster/down

# CLUSTER_OUTAGE=600s: how long the API server is away. RUN=Reboot: only that test.
.PHONY: cluster-test
cluster-test: setup cluster-programs image build ## tests on real clusters: towpath as a DaemonSet beside iptables, then supervised beside nftables
	@for run in daemonset/iptables supervise/nftables; do \
	  echo "cluster-test: $$run" >&2; \
	  (cd tests && MODE=$${run%/*} PROXY=$${run#*/} NODES=3 go test -count=1 -v -timeout 40m -tags cluster -run '$(RUN)' ./cluster) || exit; \
	done

.PHONY: move-test
move-test: setup cluster-programs image build ## moving in from the real flannel and back, and flannel's own manifest, on real clusters; PEER_FLANNEL_DIR=DIR holds flannel (tests/cluster/README.md)
	@[[ -n $${PEER_FLANNEL_DIR:-} ]] || { echo "move-test: PEER_FLANNEL_DIR=DIR is missing: flanneld, its CNI plugins and kube-flannel.yml are not part of this repository" >&2; exit 64; }
	@for test in TestMove TestMoveCanal TestFlannelManifest; do \
	  (cd tests && MODE=none go test -count=1 -v -timeout 40m -tags cluster,peer -run "^$$test$$" ./cluster) || exit; \
	done

# RUN=Matrix: only that test.
.PHONY: interop
interop: setup build bin/tests/cnitool ## towpath's nodes beside the real flanneld's, on one etcd, and a node taken over and given back; PEER_FLANNEL_DIR=DIR holds flannel (docs/INTEROP.md)
	@[[ -n $${PEER_FLANNEL_DIR:-} ]] || { echo "interop: PEER_FLANNEL_DIR=DIR is missing: flanneld and cni/{flannel,bridge,host-local} are not part of this repository" >&2; exit 64; }
	@tests/cluster/build api
	@cd tests && REQUIRE_NETNS=1 go test -count=1 -v -timeout 20m -tags peer -run '$(RUN)' ./interop

.PHONY: conformance
conformance: cluster-programs ## upstream's tests, each by name, on CLUSTER=NAME or one made as by `make cluster`; SUITE=netpol|network|all FOCUS=REGEXP PROCS=2
	@tests/cluster/conformance

.PHONY: lint
lint: ## golangci-lint, gofmt, shellcheck, shfmt, generated files
	scripts/lint

.PHONY: generate
generate: ## docs/FILES.md from lib/state, the Kubernetes manifests from their kustomize overlays
	go run ./lib/state/filesdoc > docs/FILES.md.new && mv docs/FILES.md.new docs/FILES.md
	cd packaging/kubernetes && GOWORK=off go run ./generate

.PHONY: bench
bench: setup build ## benchmarks, as root; PEER_CNI_BIN=DIR measures another CNI chain beside
	scripts/bench

.PHONY: install
install: build ## into DESTDIR: programs, CNI plugins, stage files, systemd unit, docker-opts
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)/opt/cni/bin $(DESTDIR)/usr/lib/towpath/stages.d \
	  $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)/etc/towpath/stages.d
	install -m 755 $(addprefix bin/,$(filter-out cni-bridge,$(TOOLS)) towpath) $(DESTDIR)$(PREFIX)/bin/
	install -m 755 $(addprefix bin/,cni-bridge $(PLUGINS)) $(DESTDIR)/opt/cni/bin/
	ln -sf /opt/cni/bin/cni-bridge $(DESTDIR)$(PREFIX)/bin/cni-bridge
	install -m 644 packaging/stages.d/*.toml $(DESTDIR)/usr/lib/towpath/stages.d/
	install -m 755 scripts/docker-opts $(DESTDIR)/usr/lib/towpath/
	sed 's|^ExecStart=/usr/bin/|ExecStart=$(PREFIX)/bin/|' packaging/systemd/towpath.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/towpath.service

.PHONY: tidy
tidy: ## go mod tidy in every module
	for m in $(MODULES); do (cd $$m && GOWORK=off go mod tidy); done

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist .cache
