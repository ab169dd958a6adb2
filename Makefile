# Two commands: `make demo` shows the main job on a sample guest, `make test` runs every check.
# Both set up what they need: distribution packages (as root or with sudo) and a virtual environment of their own.

VENV ?= .venv
PYTHON ?= python3
WORKERS ?= auto
EXTRAS = $(abspath $(VENV))/extras
TOOLS = MDTOOL_TEST_LINUX=$(EXTRAS)/linux MDTOOL_YAML_LS=$(EXTRAS)/node/node_modules/.bin/yaml-language-server MDTOOL_VSCODE=$(EXTRAS)/vscode

.PHONY: demo test quick check docs bench matrix soak corpus fuzz fuzz-bash proof package fleet lock clean

demo: $(VENV)/ready
	@scripts/system demo
	@$(VENV)/bin/python scripts/demo.py

test: $(VENV)/ready
	@scripts/system test
	@scripts/extras $(VENV)/extras
	$(MAKE) --no-print-directory check
	$(TOOLS) $(VENV)/bin/python -m pytest -n $(WORKERS) --dist worksteal

# What starts no QEMU, for each change of the pure middle: under a minute.
PURE = $(addprefix tests/,test_cases.py test_document.py test_qtree.py test_recorded.py test_doctests.py guest reconcile proof)
quick: $(VENV)/ready
	$(VENV)/bin/python -m pytest -n $(WORKERS) --quick $(PURE)

check: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

docs: $(VENV)/ready
	$(VENV)/bin/python -m mkdocs build --strict

# All benchmarks, with the other tool beside each; then what got slower since REV, by default the last release.
REV ?=
BENCHMARKS = launch reconcile dump proof lsp fleet growth where
bench: $(VENV)/ready
	@scripts/system test
	@scripts/system bench
	@missed=0; for benchmark in $(BENCHMARKS); do echo "== $$benchmark"; \
		$(VENV)/bin/python tests/libvirtd.py $(VENV)/bin/python benchmarks/$$benchmark.py || missed=1; done; \
		echo "== regressions"; $(VENV)/bin/python benchmarks/regressions.py $(REV) && exit $$missed

$(VENV)/ready: pyproject.toml scripts/system
	@scripts/system python
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable '.[test]'
	@touch $@

# The same tests and those that need another QEMU, from a debootstrapped newer suite (as root; a minute, 600 MB).
QEMU_ROOT ?= /var/cache/mdtool/sid
matrix: $(VENV)/ready
	@scripts/system test
	@scripts/system matrix $(QEMU_ROOT)
	@scripts/extras $(VENV)/extras
	$(TOOLS) MDTOOL_QEMU_ROOT=$(QEMU_ROOT) $(VENV)/bin/python -m pytest -n $(WORKERS) tests/qemu

# Wheel, sdist and Debian package: built twice, installed on each Python that is here, tried with the lowest versions.
PACKAGE_ROOT ?= /var/cache/mdtool/package
package: $(VENV)/ready
	@scripts/system package $(PACKAGE_ROOT)
	$(VENV)/bin/python -m pip install --quiet --editable '.[package]'
	PATH=$(abspath $(VENV))/bin:$$PATH MDTOOL_PACKAGE_ROOT=$(PACKAGE_ROOT) $(VENV)/bin/python -m pytest tests/package/heavy_*.py

# Three hosts with sshd and libvirtd, and Ansible; a container image with the hook in it.
CONTAINER_BASE ?= /var/cache/mdtool/base
fleet: $(VENV)/ready
	@scripts/system test
	@scripts/system fleet $(CONTAINER_BASE)
	$(VENV)/bin/python -m pip install --quiet --editable '.[fleet]'
	PATH=$(abspath $(VENV))/bin:$$PATH MDTOOL_CONTAINER_BASE=$(CONTAINER_BASE) $(VENV)/bin/python -m pytest tests/fleet/heavy_*.py

# What CONTRIBUTING.md names for a release: versions with hashes, for development.
lock: $(VENV)/ready
	$(VENV)/bin/python -m pip install --quiet --editable '.[package]'
	$(VENV)/bin/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-header --no-emit-index-url \
		--no-annotate pyproject.toml --extra test --extra lsp --upgrade -o requirements-dev.txt

soak: $(VENV)/ready
	@scripts/system test
	MDTOOL_SOAK=1000 $(VENV)/bin/python -m pytest -n $(WORKERS) tests/reconcile tests/qemu/test_dump.py tests/qemu/test_verify_relaunch.py

# 260 command lines in the manner of tools and boards: each QEMU beside its import (minutes; what no QEMU here has is skipped).
corpus: $(VENV)/ready
	@scripts/system test
	$(VENV)/bin/python -m pytest -q tests/import_examples.py
	$(VENV)/bin/python tests/corpus.py

# Hostile text for every parser, until ctrl-C; FUZZ="--count 100000" or "--seconds 600 xml yaml" ends it.
FUZZ ?=
fuzz: $(VENV)/ready
	$(VENV)/bin/python tests/fuzz.py $(FUZZ)

# Random scripts, followed by mdtool and run by bash: the same words for QEMU, or an error; FUZZ="--count 20000 --seed 7".
fuzz-bash: $(VENV)/ready
	$(VENV)/bin/python tests/fuzz_bash.py $(FUZZ)

# Every fault of the corpus on a QEMU of its own, and no false alarm: 60 relaunches of guests that booted, were plugged
# into, migrated or slept, and 50 imported scripts; the figures come last.
proof: $(VENV)/ready
	@scripts/system test
	$(VENV)/bin/python tests/proof_runs.py

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
