# Everything is a target: `make` prints them. A target sets up first what it needs; nothing has to be sourced.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup ready sim train test long bench chaos proof lint format docs shell lock clean
MAKEFLAGS += --no-print-directory

ARGS ?=
RUN := scripts/run
export PYTHON TORCH_INDEX

help: ## print this list
	@echo "Flow-RAG-VLA: make TARGET [ARGS=\"...\"]"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r target text; do \
		printf '  %-8s %s\n' "$$target" "$$text"; done
	@echo
	@echo "  PYTHON=/path/to/python3.11   the interpreter to set up with (3.11, 3.12 or 3.13)"
	@echo "  TORCH_INDEX=https://download.pytorch.org/whl/cpu   the CPU build of torch where PyPI gives CUDA packages"

setup: ## virtual environment, pinned packages, messages; does nothing the second time
	@scripts/setup

ready:
	@scripts/setup --quiet

sim: ready ## run the whole graph in PyBullet and write runs/<time>/ (ARGS="--help" lists the options)
	@exec $(RUN) flow_rag_vla sim $(ARGS)

train: ready ## train the shipped policy again from scripted demonstrations
	@exec $(RUN) flow_rag_vla train $(ARGS)

test: ready ## lint, types, layers, then every test with coverage (ARGS go to pytest)
	@exec $(RUN) scripts/check --all $(ARGS)

long: ready ## the tests that take minutes: ten of them without growth
	@exec $(RUN) pytest -m long $(ARGS)

bench: ready ## measure the loop, the memory, the graph and the labeller beside their baselines
	@exec $(RUN) flow_rag_vla bench $(ARGS)

chaos: ready ## inject faults into the running graph and check every command (ARGS="-n 1000" takes about half an hour)
	@exec $(RUN) flow_rag_vla chaos $(ARGS)

CLAIMED := runs/claims/of-20
proof: ready ## show again, from nothing, what the failure memory is worth (under an hour; ARGS="--help")
	@$(RUN) flow_rag_vla proof --claims --work runs/claims --results docs/results/claims $(ARGS)
	@$(if $(ARGS),,exec $(RUN) flow_rag_vla pairs --checkpoint $(CLAIMED)/policy-0 \
		--memory $(CLAIMED)/bank-0-open_drawer-object_size --episodes 10 --seed 174100 --results docs/results/claims/graph)

lint: ready ## style, types and layers only
	@exec $(RUN) scripts/check --lint

format: ready ## rewrite the sources in the project's style
	@$(RUN) ruff check --fix --quiet . || true
	@$(RUN) ruff format .

docs: ready ## write reference, parameter file and picture of the graph from the nodes' declarations
	@$(RUN) flow_rag_vla reference > docs/.reference.md.tmp && mv docs/.reference.md.tmp docs/reference.md
	@$(RUN) flow_rag_vla reference --yaml > config/.parameters.tmp && mv config/.parameters.tmp config/flow_rag_vla.yaml
	@$(RUN) flow_rag_vla reference --picture light > docs/figures/.graph.tmp && mv docs/figures/.graph.tmp docs/figures/graph.svg
	@$(RUN) flow_rag_vla reference --picture dark > docs/figures/.graph.tmp && mv docs/figures/.graph.tmp docs/figures/graph-dark.svg

shell: ready ## open a shell in which flow_rag_vla, colcon and python are the environment's
	@exec $(RUN) "$${SHELL:-/bin/sh}"

lock: ready ## write requirements/lock.txt from requirements/*.in and the environment
	@exec $(RUN) python scripts/lock.py

clean: ## remove everything that set-up and builds made; runs/ stays
	@rm -rf .venv build install log dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage*
	@find . -path ./runs -prune -o \( -name __pycache__ -o -name '*.egg-info' \) -prune -exec rm -rf {} +
