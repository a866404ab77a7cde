# make setup | demo | test | lint | bench | clean.  Everything stays inside this folder (.venv, demo, .cache).

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
NATIVE := $(wildcard cuda/build.py cuda/include/smerf/* cuda/cpu/* cuda/gpu/*)

.PHONY: help setup system demo test lint format bench clean

help:
	@echo "make setup   build .venv with the pinned packages and the native kernels"
	@echo "make demo    render the built-in capture, run every stage on it, print the page and the figures"
	@echo "make test    run the tests (no network, GPU or display needed)"
	@echo "make lint    check style; make format mends what it can"
	@echo "make bench   run the benchmarks, results in .cache/bench"
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

.venv/ready: setup.py pyproject.toml constraints.txt $(NATIVE)
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" \
	  || { echo "smerf needs Python 3.11 or newer: make PYTHON=python3.12 setup"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	@touch $@

demo: setup
	@test -f demo/tabletop/transforms.json || $(BIN)/smerf synth tabletop -o demo/tabletop --overwrite
	@$(BIN)/smerf run demo/tabletop -o demo/run --preset preview --set teacher.steps=6000 --set student.steps=1000

test: setup
	$(BIN)/python -m pytest $(ARGS)

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	@mkdir -p .cache/bench
	@set -e; for script in $$(ls benchmarks/*.py 2>/dev/null | grep -v -e /_ -e /official_); do \
	  echo "== $$script"; \
	  $(BIN)/python "$$script" --json ".cache/bench/$$(basename "$$script" .py).json"; \
	done

clean:
	rm -rf build dist demo .cache .pytest_cache .ruff_cache *.egg-info
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +
