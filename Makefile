# `make help` lists the targets. Everything but the servers that tests talk to
# (PostgreSQL, Redis; see .ci/servers) comes from the Go module proxy.

GO       ?= go
# Pinned here and not in go.mod: its dependencies would become ours.
GOLANGCI_LINT_VERSION := v2.15.0
GOLANGCI_LINT := bin/golangci-lint-$(GOLANGCI_LINT_VERSION)
OPA      := $(GO) tool opa
COUNT    ?= 10
FUZZTIME ?= 30s
SOAK     ?= 10000
ROUNDS   ?= 20
BENCH    ?=

.DEFAULT_GOAL := help
.PHONY: help build dev test race lint fmt verify check rego bench load bench-full soak fuzz generate docs servers clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build bin/usher, static
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/usher ./cmd/usher

dev: ## Run everything on this machine, with demo data (usher dev)
	$(GO) run ./cmd/usher dev

test: servers rego ## Run all tests, Go and Rego
	$(GO) test -p 1 -timeout 20m ./...

race: servers ## Run the Go tests under the race detector
	$(GO) test -race -timeout 30m ./...

servers: ## Install what the tests talk to, or say what is missing
	@.ci/servers

lint: $(GOLANGCI_LINT) ## Lint Go
	$(GOLANGCI_LINT) run ./...

$(GOLANGCI_LINT):
	GOBIN=$(CURDIR)/bin $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv bin/golangci-lint $@

fmt: $(GOLANGCI_LINT) ## Format Go and Rego
	$(GOLANGCI_LINT) fmt ./...
	$(OPA) fmt --write rego

rego: ## Format check, strict check and tests of the Rego, with all of it covered
	@unformatted=$$($(OPA) fmt --list rego); test -z "$$unformatted" || { echo "not formatted (make fmt): $$unformatted"; exit 1; }
	$(OPA) check --strict rego
	$(OPA) test --coverage --threshold 100 --format json rego > /dev/null || { $(OPA) test rego; $(OPA) test --coverage rego | grep -B2 -A12 not_covered; exit 1; }
	$(OPA) test rego

generate: ## Write what is generated: reference pages, golden files
	USHER_UPDATE=1 $(GO) test ./cmd/usher -run 'Golden|Reference' -count=1

docs: generate ## Write the generated pages, and run every example of the docs
	$(GO) test ./cmd/usher -run 'Docs' -count=1 -v

verify: ## Check that generated files are current
	$(GO) test ./cmd/usher -run 'Golden|Reference' -count=1
	$(GO) mod verify

check: verify lint test ## All that a commit must pass

bench: servers load ## Run the benchmarks, each beside its floor, and usher bench
	$(GO) test -run '^$$' -bench . -benchmem ./...

load: build servers ## Run usher bench on a usher dev of its own, beside a stock OPA (BENCH='--owners 20000')
	@dir=$$(mktemp -d); chmod 755 $$dir; \
	bin/usher dev --dir $$dir/state --no-demo --admin-listen 127.0.0.1:0 --sidecar-listen 127.0.0.1:0 > $$dir/out & dev=$$!; \
	until [ -f $$dir/state/dev.env ]; do kill -0 $$dev || { cat $$dir/out; exit 1; }; sleep 0.2; done; \
	set -a; . $$dir/state/dev.env; set +a; \
	bin/usher bench --opa "$$($(GO) tool -n opa)" $(BENCH); code=$$?; \
	kill $$dev; wait $$dev; rm -rf $$dir; exit $$code

bench-full: ## The figures of docs/performance.md at full size: 1,000,000 grants, 10,000,000 checks (twenty minutes)
	@$(MAKE) load BENCH='--owners 20000 --sidecars 8 --changes 1000 --checks 10000000 --duration 30s $(BENCH)'

soak: servers ## Compare SOAK random worlds with the model, over REST and HTTP; then ROUNDS of faults
	USHER_TEST_WORLDS=$(SOAK) $(GO) test ./cmd/usher/e2e -run TestRandomWorldsAgreeWithTheModel -count=1 -timeout 0 -v
	$(GO) test ./cmd/usher/e2e -run 'TestFaults|TestKilledProcessesLoseNothing' -count=$(ROUNDS) -timeout 0 -v

fuzz: ## Fuzz each parser for FUZZTIME
	@for pkg in $$($(GO) list ./...); do \
	  for name in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    $(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	  done; done

clean: ## Remove what was built
	rm -rf bin dist
