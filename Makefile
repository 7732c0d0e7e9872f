# Two commands are enough to start: `make demo` and `make test`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Built once, outside the tree; see tests/tools/install.
CACHE := $(or $(DRIFT_AGENT_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/drift-agent)
SCRIPTS := .ci/run tests/tools/install

.PHONY: help
help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Show the whole agent on this machine: no cluster, no network, no root
	@cargo run --quiet --locked -- demo

.PHONY: test
test: tools lint ## Install what the tests need, then run all of them
	cargo test --locked

.PHONY: lint
lint: tools ## Formatting, clippy, licences and origins of dependencies, shellcheck
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	$(CACHE)/bin/cargo-deny --locked check bans licenses sources
	$(CACHE)/bin/shellcheck $(SCRIPTS)

.PHONY: bench
bench: tools ## Measure memory, CPU, size and start time; writes benches/README.md
	cargo bench --locked --bench footprint

.PHONY: tools
tools: ## Build or find kube-apiserver, etcd, chronyd and the rest, once
	@tests/tools/install
