# Shunt. `make` lists the targets; `make demo` shows the main job.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -eu -o pipefail -c

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BUILT   ?= $(shell git log -1 --format=%cI 2>/dev/null)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.built=$(BUILT)
TOOL    := $(GO) tool -modfile=tools.mod
SOURCES := $(shell find . -name '*.go' -not -path './build/*') go.mod go.sum

export CGO_ENABLED := 0

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: build/shunt build/shuntsim ## the two static binaries, in build/

build/shunt build/shuntsim: build/%: $(SOURCES)
	@mkdir -p build
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/$*

.PHONY: demo
demo: build ## the main job on loopback: 12,000 messages, every one accounted for
	@build/shuntsim demo --shunt build/shunt

.PHONY: test
test: lint unit system ## everything that a change must pass
	@echo "make test: everything that was run has passed"

# The system tier wants root and apt. Elsewhere it is named as not run; with
# CI=true that is a failure.
.PHONY: system
system:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then $(MAKE) --no-print-directory interop booted browser torture-short; \
	else echo "not run: interop, booted, browser and torture-short (need root and apt for npm, Kannel, tshark, Chromium, strace, a container and a file system of their own)"; \
	  [ "$${CI:-}" != true ]; fi

.PHONY: unit
unit: ## the Go tests, the demo and kill -9 under load among them
	$(GO) test -count=1 -timeout 15m ./...
	@[ "$$(id -u)" = 0 ] || { echo "not run: the audit on a full disk, the control socket as other users (need root)"; [ "$${CI:-}" != true ]; }

.PHONY: interop
interop: ## npm's smpp and Kannel around the gateway, tshark on the wire (installs them)
	$(GO) test -tags interop -count=1 -v -timeout 10m ./test/interop
	$(GO) test -tags interop -count=1 -timeout 5m ./smpp/pdu

.PHONY: booted
booted: deb ## the package in a booted container, journald by itself (installs them)
	$(GO) test -tags booted -count=1 -v -timeout 10m ./test/booted

.PHONY: browser
browser: ## the page in Chromium, with traffic (installs it); BROWSERFLAGS=-update writes docs/screenshots
	$(GO) test -tags browser -count=1 -v -timeout 5m ./test/browser $(BROWSERFLAGS)

# Whatever the flags, its seed is printed; -seed N replays the faults.
.PHONY: torture
torture: build/torture strace ## minutes of kill -9, cut connections, a full disk, a failing fsync; every message accounted for
	@build/torture $(TORTUREFLAGS)

.PHONY: torture-short
torture-short: build/torture strace
	@build/torture -seed 60 -duration 25s -gap 1600ms -drain 90s

build/torture: build/shunt build/shuntsim $(SOURCES)
	$(GO) build -o $@ ./test/torture

.PHONY: strace
strace:
	@command -v strace >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || \
	  { apt-get update -q && apt-get install -qy --no-install-recommends strace; }

.PHONY: race
race: ## the Go tests under the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -count=1 -race ./...

.PHONY: lint
lint: ## go vet, staticcheck, gofumpt
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	@unformatted="$$($(TOOL) gofumpt -l $$(git ls-files '*.go'))"; \
	if [ -n "$$unformatted" ]; then echo "not gofumpt'ed, run make fmt:"; echo "$$unformatted"; exit 1; fi

.PHONY: fmt
fmt: ## format all Go files
	$(TOOL) gofumpt -w $$(git ls-files '*.go')

# Everything goes under $(DESTDIR)$(PREFIX), but for what only has one place.
PREFIX  ?= /usr/local
DESTDIR ?=
UNITS   := shunt.service shunt-smpp.socket shunt-api.socket shunt.slice shunt-failure@.service shunt-backup.service shunt-backup.timer

.PHONY: install
install: build ## binaries, units, catalogue, completions, manual pages (DESTDIR, PREFIX)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(PREFIX)/lib/systemd/system-preset \
	  $(DESTDIR)/usr/lib/systemd/catalog $(DESTDIR)$(PREFIX)/lib/sysusers.d $(DESTDIR)$(PREFIX)/lib/tmpfiles.d $(DESTDIR)/etc/shunt \
	  $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions \
	  $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 755 build/shunt build/shuntsim $(DESTDIR)$(PREFIX)/bin
	for u in $(UNITS); do sed 's|/usr/bin/shunt|$(PREFIX)/bin/shunt|g' "systemd/units/$$u" > "$(DESTDIR)$(PREFIX)/lib/systemd/system/$$u"; \
	  chmod 644 "$(DESTDIR)$(PREFIX)/lib/systemd/system/$$u"; done
	install -m 644 systemd/preset/50-shunt.preset $(DESTDIR)$(PREFIX)/lib/systemd/system-preset
	install -m 644 systemd/catalog/shunt.catalog $(DESTDIR)/usr/lib/systemd/catalog
	install -d $(DESTDIR)$(PREFIX)/share/shunt
	install -m 644 systemd/monitoring/* $(DESTDIR)$(PREFIX)/share/shunt
	install -m 644 systemd/sysusers.d/shunt.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d
	install -m 644 systemd/tmpfiles.d/shunt.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d
	[ -e $(DESTDIR)/etc/shunt/shunt.toml ] || install -m 640 systemd/shunt.toml $(DESTDIR)/etc/shunt/shunt.toml
	build/shunt completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/shunt
	build/shunt completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_shunt
	build/shunt completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/shunt.fish
	build/shunt man $(DESTDIR)$(PREFIX)/share/man/man1

# A version of a Debian package begins with a digit.
DEBARCH    ?= $(shell dpkg --print-architecture 2>/dev/null)
DEBVERSION ?= $(patsubst v%,%,$(if $(filter v%,$(VERSION)),$(VERSION),0~$(VERSION)))

.PHONY: deb
deb: build ## the Debian package, build/shunt.deb
	rm -rf build/deb
	$(MAKE) --no-print-directory install DESTDIR=build/deb PREFIX=/usr
	mkdir -m 755 build/deb/DEBIAN
	sed 's|@VERSION@|$(DEBVERSION)|; s|@ARCH@|$(DEBARCH)|' systemd/deb/control > build/deb/DEBIAN/control
	install -m 644 systemd/deb/conffiles build/deb/DEBIAN
	install -m 755 systemd/deb/postinst systemd/deb/prerm systemd/deb/postrm build/deb/DEBIAN
	find build/deb -type d -exec chmod 755 {} +
	dpkg-deb --root-owner-group -Zxz -z1 --build build/deb build/shunt.deb

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (10s) each
	@for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $${FUZZTIME:-10s} $$pkg; \
	  done; \
	done

.PHONY: bench
bench: build ## the relay against the same client and sink without it
	@$(GO) build -o build/bench ./test/bench
	@build/bench -shunt build/shunt $(BENCHFLAGS)
