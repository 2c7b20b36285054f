# Driftmesh. `make run` runs the main job, `make test` passes the tests.
GO      ?= go
BIN     := bin/driftmesh
CHAOS   := bin/chaos
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
SEED    ?= 1
JOB     ?= examples/hypergrid-4d.yaml
FUZZTIME ?= 10m
ROUNDS  ?= 200
RAYFLAGS ?=
SCALEFLAGS ?=
MESHFLAGS ?=
PEERFLAGS ?=
KILLS   ?= 50
export CGO_ENABLED ?= 0

.PHONY: .venv build run test accept race torture failover swarm netns fuzz bench bench-kernels bench-mesh bench-peers bench-plugin bench-quality bench-ray bench-scale lint verify table clean help

help: ## list the targets
	@grep -hE '^[.a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

build: ## build bin/driftmesh
	$(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o $(BIN) ./cmd/driftmesh

.PHONY: bin/chaos
bin/chaos:
	$(GO) build -trimpath -o $@ ./chaos/run

run: build ## train 4-D hypergrid on a local mesh: one server, two workers (SEED=1)
	$(BIN) up $(JOB) --servers 1 --workers 2 --set seed=$(SEED)

.venv: ## Python 3.11 or newer with the package driftmesh, for plugins and their tests
	./python/venv.sh

test: .venv ## all tests (real processes and sockets on loopback included)
	$(GO) test ./...

race: .venv ## the packages with goroutines, under the race detector
	CGO_ENABLED=1 $(GO) test -race -short ./cluster/... ./paramserver/... ./sampler/... ./internal/... ./cmd/...

accept: ## what `make run` promises, measured for three seeds (minutes)
	$(GO) test ./cmd/driftmesh -run TestMainJob -accept -v -timeout 20m

torture: build bin/chaos ## ROUNDS seeded rounds of faults on a live mesh with an archive (200 take 15 minutes; runs/torture/summary.md)
	$(CHAOS) torture --rounds $(ROUNDS) --seed $(SEED) --archive all

failover: build bin/chaos ## KILLS kills of leader, learner and worker: until others do their work
	$(CHAOS) failover --kills $(KILLS) --seed $(SEED)

swarm: build bin/chaos ## 200 worker slots on one machine: what they learn and what they cost
	$(CHAOS) swarm --seed $(SEED)

netns: build bin/chaos ## ten nodes in network namespaces (needs root)
	$(CHAOS) netns --seed $(SEED)

fuzz: ## every fuzz target for FUZZTIME each (10m: hours in all)
	./internal/lint/fuzz.sh $(FUZZTIME)

bench: ## Go benchmarks with allocations
	$(GO) test -run '^$$' -bench . -benchmem ./...

bench-ray: build ## against Ray on this machine, one run (20 minutes; RAYFLAGS="-rounds 1 -kills 2" is a short one)
	$(GO) build -trimpath -o bin/bench-ray ./bench/ray
	./bench/venv.sh ray
	exec bin/bench-ray compare $(RAYFLAGS)

bench-kernels: ## products against the processor's peak and OpenBLAS, on one core (a minute)
	$(GO) build -trimpath -o bin/bench-kernels ./bench/kernels
	./bench/venv.sh kernels
	bin/bench-kernels -python bench/kernels/.venv/bin/python

bench-scale: build ## 1 to 64 worker slots with rewards that sleep 1 to 100 ms, and a prediction for 1,000 (9 minutes; SCALEFLAGS="-delays 10")
	$(GO) build -trimpath -o bin/bench-scale ./bench/scale
	exec bin/bench-scale $(SCALEFLAGS)

bench-mesh: build ## what the mesh costs: ingest, publication, commits, windows, up beside train (7 minutes; MESHFLAGS=-short two)
	$(GO) build -trimpath -o bin/bench-mesh ./bench/mesh
	exec bin/bench-mesh run $(MESHFLAGS)

bench-peers: build ## against torchgfn and gfnx on this machine, one run (30 minutes; PEERFLAGS="-quick" is a short one)
	$(GO) build -trimpath -o bin/bench-peers ./bench/peers
	./bench/venv.sh peers
	exec bin/bench-peers compare $(PEERFLAGS)

bench-quality: build ## quality at equal budgets beside gfnx's trajectory balance (an hour; QUALITYFLAGS="-tasks grid" is a short one, -peers trains gfnx again)
	$(GO) build -trimpath -o bin/bench-quality ./bench/quality
	case "$(QUALITYFLAGS)" in *-peers*) ./bench/venv.sh peers;; esac
	exec bin/bench-quality $(QUALITYFLAGS)

table: build ## TV per member, normaliser and lag on 2-D height 8 (minutes)
	$(BIN) losses table examples/members.yaml --normalisers all --out runs/table

lint: ## gofmt, vet and the project's own rules
	@fmt=$$(gofmt -l bench cmd chaos cluster envs internal losses metrics paramserver policy sampler study 2>/dev/null); if [ -n "$$fmt" ]; then echo "gofmt wants to change:"; echo "$$fmt"; exit 1; fi
	$(GO) vet ./...
	$(GO) test ./internal/lint

verify: lint test race ## what a change must pass

bench-plugin: .venv ## rewards per second through a Python plugin, 512 objects a request
	$(GO) test ./internal/plugin -run '^$$' -bench Rewards -benchtime 2s

clean: ## remove what was built and run
	rm -rf bin runs cover.out
