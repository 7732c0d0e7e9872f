# Two commands are enough to start: `make demo` and `make test`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Built once, outside the tree; see tests/tools/install.
CACHE := $(or $(DRIFT_AGENT_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/drift-agent)
SCRIPTS := .ci/run packaging/krew/release tests/tools/install tests/tools/guest.sh tests/it/support/guest/init.sh tests/chart/run \
	tests/e2e/run tests/e2e/image tests/e2e/cluster.sh tests/e2e/policy.sh tests/e2e/steps.sh tests/e2e/arm64 manifests/render \
	tests/monitoring/run tests/portable docs/examples/leeway/run

.PHONY: help
help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Show the whole agent on this machine: no cluster, no network, no root
	@cargo run --quiet --locked -- demo

.PHONY: test
# More threads than cores: most of the integration tests wait for something.
test: tools lint chart rules ## Install what the tests need, then run all of them
	cargo test --locked --workspace --no-run
	cargo test --locked --workspace --lib --bins
	cargo test --locked --workspace --doc
	cargo test --locked --package clock-drift --test program
	cargo test --locked --test it -- --test-threads 4
	cargo test --locked --test alerts

# How many worlds; one alone: DRIFT_AGENT_SIM_SEED=N make worlds
WORLDS ?= 100000

.PHONY: worlds
worlds: ## Check the rules of measuring in WORLDS simulated worlds (100000 by default), and count what they reached
	DRIFT_AGENT_SIM_SEEDS=$(WORLDS) cargo test --locked --profile worlds --test it simulation::any_world -- --exact --nocapture

.PHONY: chart
chart: tools ## Check the chart without a cluster: lint, schema against the agent, nothing stale
	cargo build --quiet --locked --profile test
	tests/chart/run

.PHONY: rules
rules: tools ## Test alerts and recording rules with promtool, and their rendering by the chart
	tests/monitoring/run

.PHONY: chart-render
chart-render: tools ## Render from the mixin and the chart: rules, dashboard, tables, manifests/
	monitoring/render
	tests/chart/readme
	manifests/render

.PHONY: e2e
e2e: ## Install the chart on a whole Kubernetes node in namespaces of its own (needs root)
	tests/e2e/run

.PHONY: help-files
help-files: ## Write shell completions and manual pages into target/help
	@cargo run --quiet --locked --example help_files -- target/help

.PHONY: jwt-verifiers
jwt-verifiers: ## Try five real JWT verifiers; writes the table in docs/jwt.md
	cargo build --quiet --locked
	tests/jwt-verifiers/run

.PHONY: image-arm64
image-arm64: ## Build the images for arm64 on an amd64 machine, and run the program under QEMU (needs root)
	tests/e2e/arm64

.PHONY: guest
guest: ## Pause, restore and step real kernels in virtual machines
	tests/tools/install guest etcd kube-apiserver kubectl
	cargo test --locked --test guest -- --ignored --show-output --test-threads 4

.PHONY: e2e-alerts
e2e-alerts: tools ## From a clock to the notification: agents, Prometheus, Alertmanager, a webhook
	cargo test --locked --test alerts -- --include-ignored

.PHONY: lint
lint: tools ## Formatting, clippy, licences and origins of dependencies, shellcheck, words, walls between crates
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked --manifest-path tests/guest-probe/Cargo.toml --target-dir target -- -D warnings
	$(CACHE)/bin/cargo-deny --locked check bans licenses sources
	$(CACHE)/bin/shellcheck -x $(SCRIPTS)
	tests/words --self-test
	tests/words
	tests/circles --self-test
	tests/circles
	tests/portable
	tests/portable --self-test

.PHONY: bench
bench: tools ## Measure memory, CPU, size and start time; writes benches/README.md
	cargo bench --locked --bench footprint

.PHONY: bench-fleet
bench-fleet: tools ## Measure what a thousand agents cost the API server; writes benches/FLEET.md
	cargo bench --locked --bench fleet

.PHONY: bench-load
bench-load: tools ## Measure the endpoint under load: requests, stuck clients; writes benches/LOAD.md
	ulimit -n 12000; cargo bench --locked --bench load

.PHONY: bench-accuracy
bench-accuracy: ## Measure error and bound beside chronyd and a one-shot client; writes benches/ACCURACY.md (15 minutes)
	tests/tools/install chronyd chronyc
	DRIFT_AGENT_REVISION=$$(git rev-parse --short HEAD) cargo bench --locked --bench accuracy

.PHONY: bench-resume
bench-resume: ## Measure the time until a paused clock is corrected; writes benches/RESUME.md (25 minutes)
	tests/tools/install guest etcd kube-apiserver kubectl
	cargo bench --locked --bench resume

.PHONY: page-shots
page-shots: ## Take screenshots of the status page (target/page-shots); fetches Chromium
	@tests/tools/install chromium
	cargo test --locked --test it -- --ignored --nocapture page::screenshots

.PHONY: bench-nodes
bench-nodes: tools ## Measure what kubectl clock-drift costs on 5,000 Nodes; writes benches/NODES.md
	cargo bench --locked --bench nodes

# Where kubectl finds it: any folder in PATH.
PLUGIN_DIR ?= $(HOME)/.local/bin

.PHONY: plugin
plugin: ## Install kubectl clock-drift into PLUGIN_DIR (default ~/.local/bin)
	cargo build --release --locked
	install -D target/release/drift-agent $(PLUGIN_DIR)/kubectl-clock_drift

.PHONY: tools
tools: ## Build or find kube-apiserver, etcd, chronyd and the rest, once
	@tests/tools/install
