# Everything a person or a pipeline runs. The steps themselves are in tests/run.sh.

GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
FUZZTIME ?= 30s
BENCHTIME ?= 1s
BUILT    ?= $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null || echo 0))
CUTS     ?= 100
FILLINGS ?= 25
FLIPS    ?= 1000
BUILD    := .build
COMMANDS := $(notdir $(wildcard cmd/*))
LDFLAGS  := -s -w -X github.com/pipit-im/pipit/pkg/app.Version=$(VERSION)
GOBUILD  := CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(LDFLAGS)"

export GO FUZZTIME BENCHTIME

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

.PHONY: run
run: build ## build, then serve http://127.0.0.1:8080 with data in ./var
	@exec $(BUILD)/pipitd $(ARGS)

.PHONY: web
web: ## the web client, into pkg/web/dist/, if its sources changed (Node.js 20 and npm; WEB=no leaves it out)
	@pkg/web/build.sh

.PHONY: build
build: web ## the commands, for this machine, into .build/
	@mkdir -p $(BUILD)
	@$(GOBUILD) -o $(BUILD)/ $(addprefix ./cmd/,$(COMMANDS))

.PHONY: test
test: ## everything a change must pass; installs what it needs on Debian as root
	@tests/run.sh test

.PHONY: e2e
e2e: ## the web client in a real browser against a real server (part of make test)
	@tests/run.sh e2e

.PHONY: screenshots
screenshots: ## pictures of every page of the web client into .build/screenshots/
	@tests/run.sh screenshots

.PHONY: check
check: ## formatting, vet, staticcheck, the plan of the house, generated files
	@tests/run.sh check

.PHONY: race
race: ## unit tests under the race detector
	@tests/run.sh race

.PHONY: bench
bench: ## the bars, as ratios and counts in one run (BENCHTIME=1s)
	@tests/run.sh bench

.PHONY: torture
torture: ## long fault runs: kill -9, power cuts (CUTS=100), full disks (FILLINGS=25 of two file systems), bit rot (FLIPS=1000)
	@PIPIT_TORTURE_CUTS=$(CUTS) PIPIT_TORTURE_FILLINGS=$(FILLINGS) PIPIT_TORTURE_FLIPS=$(FLIPS) tests/run.sh torture

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME=30s
	@tests/run.sh fuzz

.PHONY: gen
gen: ## make generated files anew
	@$(GO) generate ./...

.PHONY: gen-check
gen-check: ## fail if generated files are not current
	@tests/run.sh gen-check

.PHONY: release-build
release-build: web ## stripped static commands for arm64, armv7 and amd64 into .build/release/
	@for target in arm64: arm:7 amd64:; do \
		arch=$${target%:*} arm=$${target#*:}; out=$(BUILD)/release/linux-$$arch$${arm:+v$$arm}; \
		mkdir -p $$out && echo "$$out" && GOOS=linux GOARCH=$$arch GOARM=$$arm $(GOBUILD) -o $$out/ $(addprefix ./cmd/,$(COMMANDS)) || exit 1; \
	done

.PHONY: deb
deb: ## Debian packages for arm64, armhf and amd64 into .build/deb/
	@VERSION=$(VERSION) image/deb/build.sh

.PHONY: man
man: ## man pages and bash completion of pipit into .build/man/
	@mkdir -p $(BUILD)/man && SOURCE_DATE_EPOCH=$(BUILT) $(GO) run -ldflags "$(LDFLAGS)" ./cmd/pipit man $(BUILD)/man && $(GO) run ./cmd/pipit completion bash >$(BUILD)/man/pipit.bash-completion

.PHONY: bundle
bundle: release-build ## signed update bundles of all boards: make bundle KEY=oakhill.key
	@test -n "$(KEY)" || { echo "say which key signs it: make bundle KEY=FILE (pipit update keygen makes one)"; exit 2; }
	@for target in arm64: arm:v7 amd64:; do \
		arch=$${target%:*}; dir=$(BUILD)/release/linux-$$arch$${target#*:}; \
		$(GO) run -ldflags "$(LDFLAGS)" ./cmd/pipit update bundle $$dir --key "$(KEY)" --arch $$arch --bundle-version "$(VERSION)" \
			--built $(BUILT) --out $(BUILD)/release/pipit-$(VERSION)-$$arch.pipit || exit 1; \
	done

.PHONY: image
image: web ## the card image for the Pi 3, 4, 400 and Zero 2 W into .build/image/ (PI5=1: for the 5 too)
	@VERSION=$(VERSION) image/builder/image.sh

.PHONY: image-lock
image-lock: ## take over the versions of Debian's packages that the archive has now
	@image/builder/base.sh lock

.PHONY: image-test
image-test: web ## build the card image, compare two, boot it in QEMU and put 4000 people on it
	@VERSION=$(VERSION) tests/run.sh image

.PHONY: image-torture
image-torture: web ## cut the power of the whole virtual machine (CUTS=10), also during an update
	@VERSION=$(VERSION) PIPIT_IMAGE_CUTS=$(or $(filter-out 100,$(CUTS)),10) tests/run.sh image-torture

.PHONY: pi-gen
pi-gen: ## Raspberry Pi OS with Pipit, by pi-gen: PI_GEN_DIR=its checkout, branch arm64
	@image/pi-gen.sh

.PHONY: release
release: web ## everything that is published, into .build/release-VERSION/ (KEY=secret update key)
	@VERSION=$(VERSION) image/release.sh

.PHONY: clean
clean: ## remove what was built (./var, your data, stays)
	@rm -rf $(BUILD)
