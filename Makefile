# SPDX-License-Identifier: MIT
# make demo   environment, install, inspect a shipped dump of a real kernel
# make test   lint, types, tests
# make test-slow  the tests that make test leaves out: whole machines, LUOSER_LAB names their dumps (tests/lab)
# make browser  the tests of report in Chromium, and of dot in Graphviz, which are skipped without these
# make flips  docs/flips.md: what check says of real dumps with one flipped bit (ten minutes)
# make e2e    kernels as judges: KERNEL=7.3 MACHINE=arm64 PAGES=64K choose; without them all that docs/kernels.md has
# make fixtures  cuts of such live updates into build/fixtures, with what the kernels said; choose as for e2e
# make fuzz   damage to every dump and golden through every command: MINUTES=, RUNS= (10000), SEED=, JOBS=, PAGE= choose
# make coverage  share of branches that tests take in memory, fdt, reader and state; fails below 92 %
# make bounds  docs/bounds.md: the test that notices when a bound on work is removed
# make golden the committed files that are made: golden bytes, dump formats
# make pages  the committed pages that are made: references, tables, outputs of commands
# make site   the pages as a site, build/site; make docs is both
# make dist   wheel and sdist; make zipapp: one file, dist/luoser.pyz; make deb: packages of Debian
# make bench  docs/benchmarks.md: speed as ratios to peers measured in the same run
# make mutants  small changes to the source that no test notices; MUTANTS='--sample 20 --seed 3 luoser/changes/pci.py'

PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' luoser/__init__.py)
DEB_NEEDS := build-essential debhelper dh-python pybuild-plugin-pyproject python3-all python3-click python3-construct python3-setuptools
DUMP := fixtures/real/7.3-a/frozen.elf.xz

.PHONY: demo test test-slow browser bench e2e fixtures fuzz coverage bounds mutants golden docs pages site dist zipapp deb flips kaitai clean

demo: .venv/installed
	$(BIN)/luoser inspect $(DUMP)

test: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST)

test-slow: .venv/tested
	$(PYTEST) -m slow

browser: .venv/tested
	command -v chromium >/dev/null && command -v dot >/dev/null || { apt-get update && apt-get install -y --no-install-recommends chromium graphviz; } || { echo "install the packages chromium and graphviz first" >&2; exit 1; }
	$(BIN)/python -m pytest tests/render/test_graph.py tests/render/test_report.py tests/cli/test_report.py

bench: .venv/tested
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,bench]'
	$(BIN)/python -m pytest tests/bench -m bench

CHOICE = $(KERNEL:%=--kernel %) $(MACHINE:%=--machine %) $(PAGES:%=--pages %)

e2e: .venv/tested
	$(BIN)/python -m tests.e2e $(CHOICE)

fixtures: .venv/tested
	$(BIN)/python -m tests.e2e.fixtures build/fixtures $(CHOICE)

fuzz: .venv/tested
	$(BIN)/python -m tests.fuzz $(MINUTES:%=--minutes %) $(RUNS:%=--runs %) $(SEED:%=--seed %) $(JOBS:%=--jobs %) $(PAGE:%=--page %)

coverage: .venv/tested
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,coverage]'
	$(PYTEST) --cov=luoser --cov-branch --cov-report=json:build/coverage.json tests/memory tests/reader tests/state tests/kernel tests/writer tests/fuzz tests/test_fdt.py
	$(BIN)/python -m tests.branches build/coverage.json

kaitai:
	npm install --silent --prefix build kaitai-struct-compiler@0.11.0

bounds: .venv/tested
	$(BIN)/python -m tests.bounds --page docs/bounds.md

mutants: .venv/tested
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,mutants]'
	$(BIN)/python -m tests.mutants $(MUTANTS)

golden: .venv/tested
	$(BIN)/python -m tests.golden
	$(BIN)/python -m tests.formats
	$(BIN)/python -m tests.golden_set

docs: pages site

pages: .venv/tested
	$(BIN)/python -m tests.state_schema
	$(BIN)/python -m tests.reference_pages
	$(BIN)/python -m tests.layout_table > docs/layouts.md
	$(BIN)/python -m tests.live_update_page
	$(BIN)/python -m tests.abi_pages
	$(BIN)/python -m tests.architecture_page
	$(BIN)/luoser compat --matrix > docs/compat.md
	$(BIN)/python -m tests.console
	$(BIN)/python -m tests.shell_files

site: .venv/documented
	$(BIN)/sphinx-build -W --keep-going -q -c docs -d build/doctrees . build/site

dist: .venv/tested
	rm -rf build/lib build/bdist.* dist/luoser-*
	$(BIN)/python -m build --outdir dist . >/dev/null

zipapp: .venv/installed
	$(BIN)/python -m tests.zipapp dist/luoser.pyz

# The archive does not have the module hexdump: its sources are a second tarball, of which a package of its own is made.
deb: dist
	dpkg-checkbuilddeps 2>/dev/null || { apt-get update && apt-get install -y --no-install-recommends $(DEB_NEEDS); } || { echo "install $(DEB_NEEDS) first" >&2; exit 1; }
	rm -rf build/deb && mkdir -p build/deb/luoser build/deb/hexdump
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: --dest build/deb hexdump==3.3
	$(BIN)/python -m zipfile -e build/deb/hexdump-3.3.zip build/deb/hexdump
	tar -C build/deb -caf build/deb/luoser_$(VERSION).orig-hexdump.tar.xz hexdump
	cp dist/luoser-$(VERSION).tar.gz build/deb/luoser_$(VERSION).orig.tar.gz
	tar -C build/deb/luoser -xf build/deb/luoser_$(VERSION).orig.tar.gz --strip-components=1
	mv build/deb/hexdump build/deb/luoser
	rm -rf build/deb/luoser/debian && cp -r debian build/deb/luoser
	cd build/deb/luoser && PATH=/usr/sbin:/usr/bin:/sbin:/bin dpkg-buildpackage -us -uc    # with the Python of Debian
	cp build/deb/*.deb dist

flips: .venv/tested
	$(BIN)/python -m tests.flips > docs/flips.md

# Debian splits venv off into a package of its own.
.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "luoser needs Python 3.11 or later; name one with PYTHON=" >&2; exit 1; }
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { apt-get update && apt-get install -y python3-venv; } || { echo "install the package python3-venv first" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/tested: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@ .venv/installed

.venv/documented: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@ .venv/installed

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
