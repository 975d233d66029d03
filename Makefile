# What a newcomer needs is `make run` and `make test`. Everything else is for those who change the code.

CARGO ?= cargo
# Root on a bare machine has no sudo, and needs none.
SUDO := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

.PHONY: run
run: ## Build and serve with the live demo at http://127.0.0.1:8080/
	@$(CARGO) build --release --bin encke
	@echo; echo "    Encke serves http://127.0.0.1:8080/ (stop with Ctrl-C)"; echo
	@$(CARGO) run --quiet --release --bin encke -- serve --demo

.PHONY: test
test: test-tools ## Install what the tests need if it is missing, then run all of them
	node tests/again.mjs $(CARGO) test --no-fail-fast
	cd fuzz && $(CARGO) test --quiet
	$(MAKE) --no-print-directory test-clients

.PHONY: test-clients
test-clients: test-tools tests/python/.venv/installed ## Only the tests of real clients: Node, headless Chromium and Firefox, Deno, Python, curl
	$(CARGO) build
	node tests/again.mjs node --test tests/js/*.test.mjs
	cd tests/browser && npm ci --silent --no-fund --no-audit && npm test
	tests/python/.venv/bin/python -m unittest discover -s tests/python -p '*_test.py'
	cd tests/bayeux && npm ci --silent --no-fund --no-audit && ENCKE_BIN=../../target/debug/encke npm test

tests/python/.venv/installed: tests/python/requirements.txt | test-tools
	python3 -m venv tests/python/.venv
	tests/python/.venv/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

.PHONY: test-slow
test-slow: test-tools ## Only what takes minutes: a server stopped for 30 s, vanished clients that the kernel has to find
	ENCKE_STOP_SECONDS=30 ENCKE_SLOW_TESTS=1 $(CARGO) test --test it -- faults:: vanished::

# Debian's names; on other systems, install the same tools by hand.
.PHONY: test-tools
test-tools:
	@for tool in curl openssl systemd-socket-activate strace ip chromium firefox-esr node npm nginx haproxy redis-server; do \
	  PATH="$$PATH:/usr/sbin" command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	  python3 -c 'import ensurepip' 2>/dev/null || missing="$$missing python3-venv"; \
	  [ -e /usr/share/php/Symfony/Component/Mercure/Hub.php ] || missing="$$missing php-cli php-symfony-mercure"; \
	  [ -z "$$missing" ] || { $(SUDO) apt-get update -qq && \
	    $(SUDO) apt-get install -y -qq --no-install-recommends $$(echo "$$missing" | sed 's/\bnode\b/nodejs/; s/\bip\b/iproute2/; s/systemd-socket-activate/systemd/'); }
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' || { echo "the tests need Node 20 or newer, this is $$(node --version)"; exit 1; }

.PHONY: check
check: ## Formatting, lints, documentation, dependencies
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	cd fuzz && $(CARGO) fmt --check && $(CARGO) clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --document-private-items
	@$(MAKE) --no-print-directory deny

.PHONY: deny
deny: ## Licences, sources and banned crates; known vulnerabilities where their database can be reached
	@command -v cargo-deny >/dev/null || $(CARGO) install cargo-deny --locked
	@if $(CARGO) deny fetch db >/dev/null 2>&1; then $(CARGO) deny check; else \
	  $(CARGO) deny check bans licenses sources; \
	  echo "advisories were not checked: their database cannot be reached from here"; fi

.PHONY: deb
deb: ## A Debian package: program, unit, user, settings, manual pages, completions
	@command -v cargo-deb >/dev/null || $(CARGO) install cargo-deb --locked
	$(CARGO) run --quiet --example manual -- target/manual
	$(CARGO) deb --output target/debian/

.PHONY: test-deb
test-deb: deb ## Unpack the package into a throw-away root and run what is in it; install and use it under a systemd of its own
	packaging/test.sh $$(ls -t target/debian/*.deb | head -1)
	$(SUDO) packaging/boot.sh $$(ls -t target/debian/*.deb | head -1)

.PHONY: bench-market
bench-market: ## What latest values cost: bytes of each technique, a large feed read by a crowd (benches/market.py)
	$(CARGO) build --release --bin encke
	python3 benches/market.py

.PHONY: bench-mercure
bench-mercure: ## What Mercure costs: a delivery beside native server-sent events, a replay, many topics (benches/mercure.py)
	$(CARGO) build --release --bin encke
	python3 benches/mercure.py

.PHONY: sim
sim: ## Simulate the whole server with 100,000 seeds, its history on disk with 1,000, several that share one with 20,000, the store with 20,000 (ENCKE_SIM_SEED=n, ENCKE_STORE_SEED=n replay one)
	ENCKE_SIM_SEEDS=$${ENCKE_SIM_SEEDS:-100000} $(CARGO) test --release --lib server::tests::sim -- --nocapture
	ENCKE_SIM_SEEDS=$${ENCKE_SIM_SEEDS:-1000} $(CARGO) test --release --lib server::tests::store
	ENCKE_SIM_SEEDS=$${ENCKE_SIM_SEEDS:-20000} $(CARGO) test --release --lib server::tests::shared
	ENCKE_STORE_SEEDS=$${ENCKE_STORE_SEEDS:-20000} $(CARGO) test --release --lib reactor::store::tests::lives

# What to fuzz, and its share of the time in percent: most for the whole server.
FUZZ_TARGETS := stream:24 splits:16 mercure:12 bayeux:8 fdajax:8 head:6 websocket:6 settings:4 tokens:3 selectors:3 chunked:2 names:2 keys:2 merge:2 clients:1 answers:1
FUZZ_SECONDS ?= 120

.PHONY: fuzz
fuzz: ## Fuzz everything that reads what a peer sends, for two minutes in all (FUZZ_SECONDS to choose)
	@command -v cargo-fuzz >/dev/null || $(CARGO) install cargo-fuzz --locked
	@rustup toolchain list | grep -q nightly || rustup toolchain install nightly --profile minimal
	cd fuzz && $(CARGO) +nightly fuzz build
	@cd fuzz && for job in $(FUZZ_TARGETS); do target=$${job%:*}; mkdir -p corpus/$$target; \
	  seconds=$$(( ($${job#*:} * $(FUZZ_SECONDS) + 99) / 100 )); echo "fuzz: $$target, $$seconds s"; \
	  $(CARGO) +nightly fuzz run $$target corpus/$$target seeds/$$target -- -max_total_time=$$seconds -max_len=4096 \
	    -dict=dictionary -timeout=10 -print_final_stats=1 -verbosity=0 2>fuzz.log || { tail -60 fuzz.log; exit 1; }; \
	  grep number_of_executed_units fuzz.log; done

.PHONY: clean
clean: ## Remove what was built
	$(CARGO) clean

-include benches/bench.mk
