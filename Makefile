# Heddle's tasks. `make` without a target lists them.

GO       ?= go
BIN      := build/bin
COMMANDS := peer orderer cryptogen configtxgen configtxlator
COMMIT   := $(shell git rev-parse --short HEAD 2>/dev/null || echo development build)
LDFLAGS  := -s -w -X 'github.com/heddle-ledger/heddle/internal/version.CommitSHA=$(COMMIT)'

# Tools, pinned; they are built into build/tools.
GOFUMPT     := mvdan.cc/gofumpt@v0.12.0
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
TOOLS       := build/tools

.PHONY: help build demo demo-down test race torture fuzz-short bench lint gen check-gen docker clean $(COMMANDS)

help: ## list the tasks
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

build: $(COMMANDS) ## build all commands into build/bin

$(COMMANDS):
	@mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(LDFLAGS)" -o $(BIN)/$@ ./cmd/$@

demo: build ## start a network with TLS, run transactions, leave it running
	@# What the sample chaincode needs, compiled once; the peers build it again from the package.
	@cd examples/asset && $(GO) build -buildvcs=false -o /dev/null .
	@./scripts/demo.sh up

demo-down: ## stop the network of `make demo` and remove its files
	@./scripts/demo.sh down

test: ## run all tests
	$(GO) test ./...

race: ## run all tests with the race detector
	$(GO) test -race ./...

TORTURE_FOR ?= 10m
torture: ## crash and fail the ledger everywhere, random operations for TORTURE_FOR (10m); see docs/torture.md
	$(GO) test ./ledger/kv ./ledger/blockfile
	$(GO) test ./ledger -run Torture -timeout 6h -v -torture.full -torture.for $(TORTURE_FOR) -torture.seed $${TORTURE_SEED:-1}

FUZZTIME ?= 10s
fuzz-short: ## run every fuzz target for FUZZTIME (10s)
	@./scripts/fuzz.sh $(FUZZTIME)

BENCH ?= .
bench: ## run the benchmarks matching BENCH (all), text for benchstat
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem ./...

$(TOOLS)/gofumpt:
	GOBIN=$(abspath $(TOOLS)) $(GO) install $(GOFUMPT)

$(TOOLS)/staticcheck:
	GOBIN=$(abspath $(TOOLS)) $(GO) install $(STATICCHECK)

lint: $(TOOLS)/gofumpt $(TOOLS)/staticcheck ## vet, staticcheck, gofumpt, import rules
	@out=$$(git ls-files '*.go' | grep -Ev '\.pb\.go$$|/testdata/' | xargs $(TOOLS)/gofumpt -l); \
	  if [ -n "$$out" ]; then echo "not formatted (run gofumpt -w):"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	$(TOOLS)/staticcheck ./...
	$(GO) test ./internal/lint

gen: ## generate the code of protos/ (needs protoc)
	./protos/gen.sh

check-gen: gen ## fail if generated code is out of date
	git diff --exit-code -- protos

docker: ## build container images of peer and orderer
	./docker/build.sh

clean: ## remove build/
	rm -rf build
