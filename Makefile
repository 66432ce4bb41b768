# make demo    a cluster of several nodes on this machine, with its stories
# make demo-kernel  the race on a real kernel, in QEMU: needs root and Debian
# make check   lint, types, the quick tests and a short form of each proof: no root, less than five minutes
# make test    everything that this machine can run; as root on Debian it installs what it needs, and asks first
# make long    what takes longer still
# make bench   timings beside their floor, as JSON
# make clean   removes .venv and all that was made

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: demo demo-kernel kernel test long check bench clean venv lint system

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PACKAGES := protocol libo2cb o2cb_controld ocfs2_controld
# What a real test needs of Debian: the clients that our users have, and the tool that stops a daemon at a system call.
DEBIAN := ocfs2-tools strace
# What those clients need where the kernel lacks OCFS2: a shim, compiled in the test, and private namespaces.
DEBIAN += gcc libc6-dev util-linux procps
# What a real kernel needs: QEMU, an initrd, the compiler of the module for tests.
DEBIAN += qemu-system-x86 busybox-static kmod gcc-12 xz-utils iproute2
# What a real cluster needs: corosync, which brings the libraries that we load, and namespaces to run it in.
DEBIAN += corosync iproute2 util-linux hostname

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "This needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) -V 2>&1). Say: make PYTHON=/path/to/python3" >&2; exit 1; }
	@if ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then tests/install-debian python3-venv; \
	  else echo "$(PYTHON) cannot make a virtual environment. On Debian: sudo apt-get install python3-venv" >&2; exit 1; fi; fi
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@# A daemon that is ready compiles nothing any more.
	$(BIN)/python -m compileall -q $(PACKAGES)
	@touch $@

demo: $(STAMP)
	@$(BIN)/python -m tests.demo

demo-kernel: system kernel
	@$(BIN)/python -m tests.real.vm demo

# The kernel of the guests and the module for tests, in a cache outside the checkout; nothing of it is installed.
kernel: $(STAMP) system
	@$(BIN)/python -m tests.real.vm fetch || echo "Going on without a real kernel; tests that need one are skipped."

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint
	$(BIN)/pytest -m '(not slow and not process and not long) or short' \
	  $(wildcard tests/unit tests/kernel tests/engine tests/transcripts tests/simulation tests/search tests/mutation tests/process)

system:
	@if [ "$$(id -u)" != 0 ]; then \
	  echo "Not root: tests that need root are skipped below, each with its reason."; \
	  missing=; for each in $(sort $(DEBIAN)); do \
	    [ "$$(dpkg-query -W -f '$${db:Status-Status}' "$$each" 2>/dev/null)" = installed ] || missing+=" $$each"; done; \
	  [ -z "$$missing" ] || echo "Not installed, and left out with what needs it: sudo apt-get install$$missing"; \
	elif command -v apt-get >/dev/null; then \
	  tests/install-debian $(sort $(DEBIAN)) || { [ $$? = 3 ] && echo "Going on without them; tests that need them are skipped, each with its reason."; }; \
	else echo "Not Debian: what needs $(DEBIAN) runs only where you have installed them."; fi

test: system kernel lint
	$(BIN)/pytest -m 'not long'

long: system kernel
	$(BIN)/pytest -m long

bench: $(STAMP)
	@$(BIN)/python -m tests.bench

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find $(PACKAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +
