# make run    try it: a site in var/ with sample studies, all roles on loopback
# make test   everything that is checked, with real peers (DCMTK, Orthanc, PostgreSQL)
# make bench  the table of docs/performance.md
# make lint   ruff, mypy and the import rules alone
# make venv   .venv alone

PYTHON ?= /usr/bin/python3
VENV ?= .venv
STATE ?= var
# The tests' path or options: make test PYTEST_ARGS="tests/config -x"
PYTEST_ARGS ?=

RUNTIME := $(VENV)/.runtime-installed
TEST := $(VENV)/.test-installed
PEERS := dcmtk orthanc postgresql
# Twisted finds its plugins only where the package's folder itself is on the path.
PIP_EDITABLE := --config-settings editable_mode=compat --editable

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: run test bench lint venv rendered peers
.DELETE_ON_ERROR:

run: $(RUNTIME)
	exec $(VENV)/bin/pacsd demo --state "$(STATE)"

test: $(TEST) peers lint
	$(VENV)/bin/pytest $(PYTEST_ARGS)

lint: $(TEST)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

bench: $(TEST) peers
	$(VENV)/bin/python -m benchmarks.run

venv: $(TEST)

# What is made from the sources and kept beside them; a test says when it is old.
rendered: $(TEST)
	$(VENV)/bin/python -m pacsd.config.render > etc/pacsd.toml
	$(VENV)/bin/python -m pacsd.config.render manual > docs/configuration.md
	$(VENV)/bin/python -m pacsd.dicom.conformance > docs/dicom-conformance.md

peers:
	.ci/install-packages $(PEERS)

$(VENV)/bin/python:
	test -x "$(PYTHON)" && "$(PYTHON)" -c 'import ensurepip' 2>/dev/null || .ci/install-packages python3-venv ca-certificates
	"$(PYTHON)" -m venv "$(VENV)"

# Order-only: the interpreter's time stamp says nothing about what is installed.
$(RUNTIME): setup.cfg pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet $(PIP_EDITABLE) .
	touch $@

$(TEST): setup.cfg pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet $(PIP_EDITABLE) '.[test]'
	touch $(RUNTIME) $@
