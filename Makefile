# `make demo` and `make test` are all a newcomer needs; both install what is missing first.

CARGO ?= cargo
# The VMs' agent is a static program, so it is built for a named target with flags of its own.
GUEST_TARGET := x86_64-unknown-linux-gnu
GUEST_FLAGS := CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS='-C target-feature=+crt-static'
# Where demo, tests and benchmarks keep images and templates, so that each is made once.
IN_TARGET := EVALFLEET_STATE__DIR=$(CURDIR)/target/bench EVALFLEET_IMAGES__DIR=$(CURDIR)/target/images \
	EVALFLEET_QEMU__SNAPSHOT_DIR=$(CURDIR)/target/templates
export EVALFLEET_AGENT := $(CURDIR)/target/$(GUEST_TARGET)/guest/evalfleet-guest

.PHONY: help setup build demo test test-unit test-e2e test-api test-long test-dashboard screenshots simulate lab lint fuzz bench figures bench-analytics bench-pages soak crash pile clean

help: ## Say what there is to make.
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: ## Install what this machine lacks (asks for sudo only where it must).
	@deploy/setup.sh

build: setup ## Build the programs, the agent and the Datomic gateway.
	@datomic/build.sh
	$(GUEST_FLAGS) $(CARGO) build --locked --quiet --profile guest --package evalfleet-guest --target $(GUEST_TARGET)
	$(CARGO) build --locked --workspace --bins --lib --examples

demo: build ## Run the main job end to end, on real parts, and stop what was started.
	@deploy/demo.sh

test: build test-unit test-e2e test-api ## Pass all tests: pure ones, then the whole on real parts, then the API.

test-unit: ## Unit, property and golden tests: no broker, no VM; and the gateway's own.
	$(CARGO) test --locked --workspace --quiet
	@datomic/test.sh > target/gateway-tests.txt 2>&1 || { cat target/gateway-tests.txt; exit 1; }
	@tail -2 target/gateway-tests.txt

test-e2e: ## The whole on real RabbitMQ, QEMU and Datomic.
	$(CARGO) test --locked --workspace --test simulation --test vm --test whole -- --test-threads=1

test-api: build ## The API against its own description, by schemathesis: no browser.
	@ONLY=api tests/dashboard/run.sh > target/api-tests.txt 2>&1 || { cat target/api-tests.txt; exit 1; }
	@tail -n 3 target/api-tests.txt

test-dashboard: build ## The dashboard in headless Chromium, and the API against its own description.
	@tests/dashboard/run.sh

screenshots: build ## Take the README's pictures of the dashboard anew.
	@SHOTS=$(CURDIR)/insight/screenshots ONLY=pages tests/dashboard/run.sh

lab: build ## Try what needs KVM, cgroup v2 and systemd, in an emulated machine that has them.
	$(IN_TARGET) target/debug/evalfleet image build base
	@tests/lab/lab.sh $(LAB)

test-long: build ## What takes too long for every day: all images built twice, their scenarios in VMs, a pile of dead letters, RabbitMQ 4.x.
	$(CARGO) test --locked --workspace --test build -- --ignored --test-threads=1
	$(CARGO) test --locked --workspace --test vm -- --ignored
	$(CARGO) test --locked --workspace --test whole -- --ignored --nocapture
	tests/crash/rabbitmq.sh target/rabbitmq-4
	EVALFLEET_TEST_RABBITMQ=$(CURDIR)/target/rabbitmq-4 $(CARGO) test --locked --workspace --test whole -- broker_4::

simulate: ## Play new schedules of the simulated delivery for SIMULATION_SECONDS (600); the first that fails names its seed.
	EVALFLEET_SIMULATION_SECONDS=$(or $(SIMULATION_SECONDS),600) $(CARGO) test --locked --workspace --test simulation -- \
		--nocapture nothing_is_lost > target/simulation.txt || { cat target/simulation.txt; exit 1; }
	sed -n 's/^.*simulation: /simulation, one core: /p' target/simulation.txt | tee bench/results/simulation.txt
	@$(MAKE) --no-print-directory figures

lint: ## Formatting and clippy, as changes are expected to pass them.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets --test simulation --test vm --test whole -- -D warnings

fuzz: ## Fuzz what reads the bytes of VMs, and the guard of questions: FUZZ_SECONDS (600) for each target.
	@tests/fuzz/run.sh

bench: build ## Measure; results go to bench/results/.
	$(IN_TARGET) target/debug/evalfleet image build base
	$(CARGO) build --locked --release --workspace --bins
	EVALFLEET_GATEWAY_HEAP=$(or $(EVALFLEET_GATEWAY_HEAP),8g) $(IN_TARGET) target/release/evalfleet-bench
	@$(MAKE) --no-print-directory figures

figures: ## Show in the README what is in bench/results/.
	@bench/figures.sh --write

# Other programs for finding change points, to compare with.
PEERS := target/peers/bin/python

bench-analytics: ## Measure how often the analytics are right. SERIES=FOLDER adds annotated series, against other programs.
ifdef SERIES
	test -x $(PEERS) || (python3 -m venv target/peers && target/peers/bin/pip install --quiet apache-otava ruptures)
endif
	$(CARGO) run --locked --release --package evalfleet-bench-analytics -- $(if $(SERIES),--series $(SERIES) --peers $(PEERS)) > target/analytics.txt
	mv target/analytics.txt bench/results/analytics.txt

bench-pages: ## How soon pages are there, and show what was recorded: EVALUATIONS (100000), each page opened ROUNDS (15) times.
	$(CARGO) build --locked --release --package evalfleet-insight --package evalfleet-tests --bins
	datomic/build.sh
	STAGE=$(CURDIR)/target/release/dashboard-stage ONLY=bench tests/dashboard/run.sh $(or $(EVALUATIONS),100000) $(or $(ROUNDS),15) > target/pages.txt
	mv target/pages.txt bench/results/pages.txt
	@$(MAKE) --no-print-directory figures

soak: build ## Ten thousand resets, each job looking for what all before it left. Takes hours under emulation.
	$(IN_TARGET) target/debug/evalfleet image build base
	$(CARGO) build --locked --release --workspace --bins
	$(IN_TARGET) target/release/evalfleet-bench soak > target/soak.txt
	mv target/soak.txt bench/results/soak.txt
	@$(MAKE) --no-print-directory figures

crash: build ## Kill every part of a real cluster while 10,000 jobs flow: with the host's RabbitMQ, with 4.x, and 100 with real VMs.
	tests/crash/rabbitmq.sh target/rabbitmq-4
	$(CARGO) test --locked --workspace --test crash -- run $(CRASH) > target/crash.txt
	$(CARGO) test --locked --workspace --test crash -- run --rabbitmq $(CURDIR)/target/rabbitmq-4 $(CRASH) >> target/crash.txt
	$(CARGO) test --locked --workspace --test crash -- run --real --jobs 100 --rate 1 --minutes 8 >> target/crash.txt
	mv target/crash.txt bench/results/crash.txt
	@$(MAKE) --no-print-directory figures

pile: build ## Ten thousand dead letters that a broken image left: searched, and replayed once it is mended, killed on the way.
	$(CARGO) test --locked --workspace --test whole -- --ignored --nocapture pile:: > target/pile.txt || { cat target/pile.txt; exit 1; }
	sed -n 's/^.*pile: //p' target/pile.txt | tee bench/results/pile.txt

clean: ## Remove what was built; state directories stay.
	$(CARGO) clean
	rm -rf datomic/target
