# make setup | demo | test | lint | bench | docs | clean.  Everything stays inside this folder (.venv, demo, .cache).

SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
# pip obeys the pins in the environments that it builds packages in, too.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# OpenMP threads that spin while they wait slow down everything else on a small machine.
export OMP_WAIT_POLICY ?= passive
export DEBIAN_FRONTEND := noninteractive

# Debian package = how to see that it, or its like, is there.
TOOLS := g++=g++ xvfb=Xvfb chromium=chromium
LIBRARIES := libgl1=libGL.so.1 libegl1=libEGL.so.1 libgles2=libGLESv2.so.2
DRIVERS := libgl1-mesa-dri libglx-mesa0 libegl-mesa0
KERNELS := $(wildcard cuda/include/smerf/* cuda/cpu/* cuda/gpu/*)
# Files of tests run side by side. Continuous integration fails on an unexpected skip (tests/conftest.py), and reports coverage
# and which tests take longest.
TEST_FLAGS := -n auto --maxprocesses=4 --dist=loadfile $(if $(CI),--cov --cov-report=term:skip-covered --durations=25 --durations-min=5)
TSC := npx --yes --package typescript@7.0.2 -- tsc

.PHONY: help setup system demo test lint lint-js format bench docs clean

help:
	@echo "make setup   build .venv with the pinned packages and the native kernels (about 5 minutes on 2 cores)"
	@echo "make demo    render the built-in capture, run every stage on it (5 minutes), print the page and the figures"
	@echo "make test    run the tests (no network, GPU or display needed); ARGS='-m \"not slow\"' picks some"
	@echo "make lint    check style and types; make format fixes what it can"
	@echo "make bench   run the benchmarks' short forms, results in .cache/bench (up to 20 minutes on 2 cores)"
	@echo "make docs    build the documentation site into .cache/site"
	@echo "make clean   delete everything that can be made again, except .venv"

setup: system .venv/ready

# Compiler, software OpenGL and a browser: installed when that is possible, named when it is not.
system:
	@missing=""; \
	for pair in $(TOOLS); do command -v "$${pair#*=}" >/dev/null || missing="$$missing $${pair%%=*}"; done; \
	$(PYTHON) -c "import ensurepip, venv" 2>/dev/null || missing="$$missing python3-venv"; \
	if command -v apt-get >/dev/null; then \
	  libraries="$$(PATH="$$PATH:/sbin:/usr/sbin" ldconfig -p)"; \
	  for pair in $(LIBRARIES); do \
	    grep -qF "$${pair#*=}" <<< "$$libraries" || missing="$$missing $${pair%%=*}"; \
	  done; \
	  for package in $(DRIVERS); do \
	    dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q "ok installed" \
	      || missing="$$missing $$package"; \
	  done; \
	fi; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	line="apt-get install -y --no-install-recommends$$missing"; \
	if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  echo "$$line"; apt-get update -q && $$line; \
	elif command -v apt-get >/dev/null; then \
	  echo "smerf: some system packages are missing. Tests that need them will fail. To install them:"; \
	  echo "  sudo $$line"; \
	else \
	  echo "smerf: install what these Debian packages hold on your system:$$missing"; \
	fi

.venv/ready: setup.py pyproject.toml constraints.txt cuda/build.py $(KERNELS)
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" \
	  || { echo "smerf needs Python 3.11 or newer: make PYTHON=python3.12 setup"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "smerf: installing the pinned packages (about 0.5 GB to download the first time)"
	@SMERF_NATIVE=0 $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@$(BIN)/python setup.py --quiet build_ext --inplace
	@touch $@

demo: setup
	@test -f demo/tabletop/transforms.json || $(BIN)/smerf synth tabletop -o demo/tabletop --overwrite
	@$(BIN)/smerf run demo/tabletop -o demo/run --minutes 5

test: setup
	$(BIN)/python -m pytest $(TEST_FLAGS) $(ARGS)

lint: .venv/ready lint-js
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(KERNELS)
	$(BIN)/mypy

# The web viewer's types are checked where there is node; the page itself needs none of it.
lint-js:
	@export npm_config_fetch_retries=0; \
	if ! command -v npx >/dev/null; then \
	  echo "smerf: no npx here: the types of viewer/web are not checked"; \
	elif $(TSC) --version >/dev/null 2>&1 || npm view typescript version >/dev/null 2>&1; then \
	  $(TSC) --noEmit -p viewer/web/tsconfig.json; \
	else \
	  echo "smerf: no npm registry in reach: the types of viewer/web are not checked"; \
	fi

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(KERNELS)

bench: setup
	$(BIN)/python -m benchmarks --short --folder .cache/bench $(ARGS)

docs: setup
	@SMERF_NATIVE=0 $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet --site-dir .cache/site
	@echo "smerf: .cache/site/index.html"

clean:
	rm -rf build dist demo .cache .pytest_cache .ruff_cache *.egg-info
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +
