# What the server costs. `make bench` takes a few minutes, `make bench SIZE=full` half an hour; results: target/bench/.
# Needs two processors (server and generator) and a machine that does nothing else: what is disturbed is measured again,
# once. As root, with chrt, the servers wait for no other process.

SIZE ?= quick
BENCH_ARGS ?=

.PHONY: bench bench-cluster bench-build bench-tools bench-peers bench-peers-install bench-bayeux bench-noise bench-hostile micro instructions soak

# Cargo names benches with a hash; the suite takes the newest beside itself. The server comes last, because building
# benches leaves an unstripped one in its place.
bench-build:
	cargo bench --no-run --bench floor --bench load --bench suite
	cargo build --release --bin encke

SUITE = $$(ls -t target/release/deps/suite-* | grep -v '\.d$$' | head -1) --size $(SIZE) $(BENCH_ARGS)

bench: bench-tools instructions bench-build ## Measure beside the floor
	$(SUITE)

bench-peers: bench-build bench-tools bench-peers-install ## The same, with nchan and nginx in the same run
	$(SUITE) --peers

bench-tools:
	@command -v wrk >/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq --no-install-recommends wrk; }

bench-peers-install:
	@test -e /usr/lib/nginx/modules/ngx_nchan_module.so || { $(SUDO) apt-get update -qq && \
		$(SUDO) apt-get install -y -qq --no-install-recommends nginx-core libnginx-mod-nchan; }

bench-bayeux: bench-build ## Bayeux beside native long polling, and CometD's documented load test
	$(SUITE) --only Bayeux --output target/bench/bayeux

HOSTILE_ARGS ?=

bench-hostile: ## What an innocent client feels, and the server takes, while strangers do what they may, of each kind and all together
	cargo bench --no-run --bench hostile
	cargo build --release --bin encke
	ulimit -n 20000; $$(ls -t target/release/deps/hostile-* | grep -v '\.d$$' | head -1) --seconds 8 $(HOSTILE_ARGS)

bench-noise: bench-build ## The floor against itself: what the machine's noise alone gives
	$(SUITE) --floor-twice

micro: ## What the processor does without the kernel, by criterion
	cargo bench --bench micro

instructions: ## Count them per operation and compare with benches/instructions/expected.txt
	@command -v valgrind >/dev/null || $(SUDO) apt-get install -y --no-install-recommends valgrind
	cargo bench --bench instructions -- --check

bench-cluster: ## Two servers that share a history over a Redis
	cargo bench --no-run --bench cluster
	cargo build --release --bin encke
	cargo bench --bench cluster -- --run

SOAK_SECONDS ?= 600

soak: ## Clients of every technique come, go and are killed for SOAK_SECONDS (600); plots: target/soak/
	cargo bench --no-run --bench soak
	cargo build --release --bin encke
	$$(ls -t target/release/deps/soak-* | grep -v '\.d$$' | head -1) --seconds $(SOAK_SECONDS) $(SOAK_ARGS)
