# Two commands matter: `make demo` and `make test`. Both run on a fresh Debian or Ubuntu machine, as root.
.DEFAULT_GOAL := help
.PHONY: help venv demo test test-all lint unit gateway molecule e2e drills bench accept lab-down lock
INVENTORY ?= inventory/lab
PATH := $(CURDIR)/.venv/bin:$(PATH)
export PATH

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

venv: ## install what is missing on this machine, and the Python environment
	@scripts/bootstrap

demo: venv ## the rack lab, site.yml on it, and a streamed answer through the balancer
	@scripts/demo

test: venv ## lint, unit, gateway, molecule and end-to-end tests (what CI runs)
	@tests/run

test-all: venv ## everything in `make test`, the slow tests and the benches; writes a dated report
	@tests/run --all

lint: venv ## ansible-lint (production profile), yamllint, ruff, mypy, shellcheck where installed
	@tests/run lint

unit: venv ## tests that need no lab
	@tests/run unit

gateway: venv ## the real HAProxy against a programmable engine
	@tests/run gateway

molecule: venv ## the roles, one by one, on lab nodes
	@tests/run molecule

e2e: venv ## the whole service on the lab with real vLLM
	@tests/run e2e

drills: venv ## overload, noisy neighbours, reloads, lost nodes, with figures; results in tests/drills/results
	@tests/run drills

bench: venv ## measurements; results in tests/bench/results
	@tests/run bench

accept: venv ## the acceptance test of a real rack: make accept INVENTORY=inventory/rack
	@tests/run accept --inventory $(INVENTORY)

lab-down: venv ## remove every trace of the lab (caches stay: scripts/lab down --caches drops them)
	@scripts/lab down

lock: venv ## resolve requirements.txt again from pyproject.toml
	@uv pip compile --quiet --system-certs --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	  --no-header --extra lab --extra test pyproject.toml -o requirements.txt
