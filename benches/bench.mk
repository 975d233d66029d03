# What the server costs. `make bench` takes a few minutes, `make bench SIZE=full` half an hour; results: target/bench/.
# Needs two processors (server and generator) and a machine that does nothing else.

SIZE ?= quick
BENCH_ARGS ?=

.PHONY: bench bench-build bench-peers bench-peers-install bench-noise

# Cargo names benches with a hash; the suite takes the newest beside itself. The server comes last, because building
# benches leaves an unstripped one in its place.
bench-build:
	cargo bench --no-run --bench floor --bench load --bench suite
	cargo build --release --bin encke

SUITE = $$(ls -t target/release/deps/suite-* | grep -v '\.d$$' | head -1) --size $(SIZE) $(BENCH_ARGS)

## bench: measure beside the floor
bench: bench-build instructions
	$(SUITE)

## bench-peers: the same, with nchan and nginx in the same run
bench-peers: bench-build bench-peers-install
	$(SUITE) --peers

bench-peers-install:
	@test -e /usr/lib/nginx/modules/ngx_nchan_module.so && command -v wrk >/dev/null || \
		apt-get install -y --no-install-recommends nginx-core libnginx-mod-nchan wrk

## bench-bayeux: Bayeux beside native long polling, and CometD's documented load test
.PHONY: bench-bayeux
bench-bayeux: bench-build
	$(SUITE) --only Bayeux --output target/bench/bayeux

## bench-noise: the floor against itself: what the machine's noise alone gives
bench-noise: bench-build
	$(SUITE) --floor-twice

## micro: what the processor does without the kernel, by criterion
.PHONY: micro
micro:
	cargo bench --bench micro

## instructions: count them per operation and compare with benches/instructions/expected.txt
.PHONY: instructions
instructions:
	@command -v valgrind >/dev/null || apt-get install -y --no-install-recommends valgrind
	cargo bench --bench instructions -- --check

## soak: clients of every technique come, go and are killed for SOAK_SECONDS (600); plots: target/soak/
SOAK_SECONDS ?= 600

.PHONY: soak
soak:
	cargo bench --no-run --bench soak
	cargo build --release --bin encke
	$$(ls -t target/release/deps/soak-* | grep -v '\.d$$' | head -1) --seconds $(SOAK_SECONDS) $(SOAK_ARGS)
