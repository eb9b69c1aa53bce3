# hive: see README.md. Everything here works from a clean clone with Go and make.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  = -s -w -X main.version=$(VERSION)
TOOL     = $(GO) tool -modfile=tools/go.mod

# The race detector needs a C compiler; without one the tests still run.
RACE := $(shell command -v $${CC:-cc} >/dev/null 2>&1 && echo -race)

# Builds that check the order of locks (docs/locks.md).
RANKS = -tags lockrank

# The tests wait more than they compute. The packages that take longest are begun first:
# else one of them is still waiting when all others have ended.
CORES = $(shell nproc 2>/dev/null || echo 2)
BUSY  = -p $(shell expr $(CORES) \* 2) -parallel $(shell expr $(CORES) \* 2)
LONG  = ./hive ./httpapi ./packaging ./store ./test/attack ./test/boot ./cmd/hive ./test/docs ./hive/proc ./cmd/hivectl

ROUNDS ?= 300
FOR    ?= 5m
ROLLS  ?= 20
POINTS ?= 0
PAIRS  ?= 2000
FAULTS ?= 1000
COMMANDS ?= 0

# Where binaries and packages go.
BIN  ?= bin
DIST ?= dist

.PHONY: all build package run generate check test test-packages test-modules torture killwalk contention chaos listeners gateway upgrade soak fuzz bench knots measure image compose-up compose-down lint fmt clean

all: build

build: ## static binaries in bin/
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/hive ./cmd/hive
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/hivectl ./cmd/hivectl
	ln -sf hive $(BIN)/rbee-hive

# A version that Debian's tools order rightly: a tag's, or the time of the commit.
PACKAGE_VERSION ?= $(shell (git describe --tags --dirty 2>/dev/null || git log -1 --format=0~%cd.%h --date=format:%Y%m%d%H%M%S 2>/dev/null || echo 0~dev) | sed 's/^v//; s/-/+/; s/-/./g')

package: build ## a Debian package in dist/
	mkdir -p $(DIST) $(BIN)/completions
	for shell in bash fish; do $(BIN)/hivectl completion $$shell >$(BIN)/completions/hivectl.$$shell || exit 1; done
	$(BIN)/hivectl completion zsh >$(BIN)/completions/_hivectl
	PACKAGE_VERSION='$(PACKAGE_VERSION)' PACKAGE_ARCH=$$($(GO) env GOARCH) PACKAGE_BIN=$(BIN) \
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || date +%s) \
		$(GO) tool -modfile=tools/nfpm.mod nfpm package --config packaging/nfpm.yaml --packager deb --target $(DIST)/

run: build ## the daemon with its defaults, or with the file CONFIG
	@bin/hive $(if $(CONFIG),--config '$(CONFIG)')

# What is generated from the contract, each by the oapi-codegen.yaml beside it.
CONTRACT = httpapi/openapi.yaml
GENERATED = httpapi/wire/models.gen.go httpapi/server.gen.go httpapi/client/api/client.gen.go

generate: ## shapes, router and the client's requests, from httpapi/openapi.yaml
	@for dir in $(dir $(GENERATED)); do \
		$(GO) run ./httpapi/internal/prepare <$(CONTRACT) | $(TOOL) oapi-codegen -config $${dir}oapi-codegen.yaml /dev/stdin || exit 1; \
	done

# Tests that are long by what they test (they wait out a grace of 16 s, or install packages) are
# left out, and the race detector. What is left mostly waits, so more of it runs at once
# than there are cores. Tests that build hive and run it would be taken from go's cache when
# only hive has changed: none are.
check: ## what to run while working: vet, the tests that are not long, lint
	@test "$$HIVE_TEST_STRICT" != 1 || { echo "make check leaves tests out; the strict run is make test"; exit 1; }
	$(GO) vet ./...
	$(GO) test -short -count=1 -vet=off -p 4 -parallel 4 ./...
	$(TOOL) golangci-lint run ./...

test: ## the whole test suite
ifeq ($(RACE),)
	@echo "no C compiler: the tests run without the race detector"
	@test "$$HIVE_TEST_STRICT" != 1
endif
	$(GO) vet ./...
	$(GO) -C test/docker vet ./...
	$(GO) -C tools vet ./...
	$(MAKE) -j2 test-packages test-modules
	$(GO) test -count=1 -tags held -run Held ./test/hungmount
	$(MAKE) torture ROUNDS=100
	$(MAKE) killwalk POINTS=20 PAIRS=20 FAULTS=0 COMMANDS=3
	$(MAKE) contention FOR=30s
	$(MAKE) chaos FOR=30s
	$(MAKE) listeners FOR=20s
	$(MAKE) gateway FOR=20s
	$(MAKE) upgrade ROLLS=4

test-packages:
	$(GO) test $(RACE) $(RANKS) $(BUSY) -shuffle=on -timeout 15m $(LONG) ./...

test-modules:
	$(GO) -C test/docker test $(RACE) -shuffle=on -timeout 15m ./...
	$(GO) -C tools test -shuffle=on ./...

torture: build ## kill -9 the daemon ROUNDS times while it spawns and stops workers
	CGO_ENABLED=0 $(GO) build -trimpath -tags nogate -o bin/hive-nogate ./cmd/hive
	$(GO) run ./test/torture -hive bin/hive -nogate bin/hive-nogate -rounds $(ROUNDS)

killwalk: build ## kill -9 the daemon before each system call of a run and of a recovery; let calls fail
	$(GO) run ./test/killwalk -hive bin/hive -hivectl bin/hivectl -points $(POINTS) -pairs $(PAIRS) -faults $(FAULTS) -commands $(COMMANDS)

contention: build ## 64 clients and strangers fight FOR so long over 40 ports
	$(GO) run ./test/contention -hive bin/hive -for $(FOR)

chaos: build ## 100 workers; they and the daemon are killed, restarted, stopped and reloaded FOR so long
	CGO_ENABLED=0 $(GO) build -trimpath $(RANKS) -o bin/hive-lockrank ./cmd/hive
	$(GO) run ./test/chaos -hive bin/hive-lockrank -for $(FOR)

listeners: build ## hive is killed FOR so long in the middle of jobs, each with somebody who follows its events
	$(GO) run ./test/listeners -hive bin/hive -for $(FOR)

gateway: build ## clients ask through a gateway FOR so long while hive and workers are killed and strangers take ports
	$(GO) run ./test/gateway -hive bin/hive -for $(FOR)

fuzz: ## every fuzz target FOR so long, one after the other
	@grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u | while read -r dir; do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z]*\)(.*/\1/p' $$dir/*_test.go); do \
			echo "$$dir $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FOR) -fuzzminimizetime 3s $$dir || exit 1; \
		done; \
	done

upgrade: build ## the binary is replaced under 200 serving workers, ROLLS times
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)-next' -o bin/hive-next ./cmd/hive
	$(GO) run ./test/upgrade -hive bin/hive -next bin/hive-next -rounds $(ROLLS)

# Where the drawing of a soak goes.
SVG ?= docs/soak.svg

soak: build ## 200 workers come and go FOR so long (best 1h), and nothing that hive uses may grow; SVG= leaves the drawing in docs/ as it is
	$(GO) run ./test/soak -hive bin/hive -for $(FOR) -csv bin/soak.csv -svg '$(SVG)'

# Supervisors to measure beside hive, as in PEERS="process-compose=PATH supervisord s6".
PEERS ?=

bench: build ## benchmarks with their floors and PEERS, a table at the end, and its drawing in bin/
	@$(GO) run ./test/bench -hive bin/hive -peers '$(PEERS)' -svg bin/bench.svg

knots: ## files that use each other in circles, by package; fails if a circle is too large; ARGS=-v names the files
	@$(GO) -C tools run ./knots -dir .. $(ARGS)

# Settings whose mentions are counted.
SETTINGS ?= workers_keep

measure: ## sizes, comments, tests and who writes a worker's state, each beside its target
	@$(GO) -C tools run ./measure -dir .. $(SETTINGS)

image: build ## the container image "hive"; nothing is pulled
	docker build -t hive .

# The plugin of docker, or where that is missing the docker-compose of old.
COMPOSE = $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

compose-up: build ## hive in a container, as docker-compose.yml says
	$(COMPOSE) up -d --build

compose-down: ## the container goes, its volume stays
	$(COMPOSE) down

lint:
	$(TOOL) golangci-lint run ./...
	cd test/docker && $(GO) tool -modfile=$(CURDIR)/tools/go.mod golangci-lint run ./...
	cd tools && $(GO) tool golangci-lint run ./...
	GOOS=darwin $(GO) vet ./cmd/hivectl ./cmd/hive

fmt:
	$(TOOL) gofumpt -w .

clean:
	rm -rf $(BIN) $(DIST)
