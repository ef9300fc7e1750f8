# Two commands matter: `make book` and `make test`. `make help` lists the others.
# Both make their own environment in .venv from requirements.lock and can be run again.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
HTML := _build/html
LIVE := _build/live

# The first Python that is new enough; `make PYTHON=/path/to/python book` chooses another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	then command -v $$python; break; fi; done)

# Synthetic data and cached runs stay inside the checkout unless told otherwise. Notebooks
# run in their own folder, so the path must be absolute. ($(abspath) would take each word of
# a path with blanks for a path; the library knows ~.)
ifeq ($(strip $(REIDLIB_CACHE)),)
override REIDLIB_CACHE := .cache/reidlib
endif
ifeq ($(filter /% ~%,$(firstword $(REIDLIB_CACHE))),)
override REIDLIB_CACHE := $(CURDIR)/$(REIDLIB_CACHE)
endif
export REIDLIB_CACHE

# A kernel called python3 in the user's home would otherwise come before the one in .venv.
export JUPYTER_PREFER_ENV_PATH := 1
export JUPYTER_PLATFORM_DIRS := 1

# Training on a CPU asks for the same large blocks of memory in each step. Left to itself,
# glibc returns them and fetches them anew, page by page: a sixth of the time of a training.
export MALLOC_MMAP_THRESHOLD_ := 4294967296
export MALLOC_TRIM_THRESHOLD_ := 68719476736

# Tests and notebooks run in this many processes, which share the cores.
WORKERS ?= 2

# Those that take longest come first. Chapters that share a training stand apart, so that
# neither waits for the other.
LONG := $(addprefix notebooks/,$(addsuffix .ipynb,soft_biometrics domain_adaptation \
	camera_alignment the_cals_system symmetric_contrast data_and_camera_bias \
	features_and_backbones label_refinement))
NOTEBOOKS := $(LONG) $(filter-out $(LONG),$(sort $(wildcard notebooks/*.ipynb)))
RENDER = $(BIN)/jupyter-book build -W -n --keep-going --all
EXECUTE = $(BIN)/python notebooks/execute.py --processes $(WORKERS)

.DELETE_ON_ERROR:
.PHONY: help book pdf epub chromium live cities test unit notebooks times format lint types bench clean distclean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

book: $(INSTALLED) ## Render the book from the stored outputs
	$(RENDER) .
	REIDLIB_BOOK=$(HTML) $(BIN)/python -m pytest tests/book/test_pages.py
	@echo "The book is ready: open $(CURDIR)/$(HTML)/index.html"

pdf: chromium book ## Print the book as one PDF, solutions at the end
	$(BIN)/python book/print/make_pdf.py $(HTML) _build/person-re-identification.pdf

epub: chromium book ## Pack the book for electronic readers
	$(BIN)/python book/print/make_epub.py $(HTML) _build/person-re-identification.epub

# First, so that nobody waits for a book that cannot be printed then.
chromium: $(INSTALLED)
	@$(BIN)/python book/print/chromium.py

# The executed copies are rendered from a folder of their own, in which all that they refer
# to is linked; the stored outputs stay as they are.
live: $(INSTALLED) cities ## Execute every notebook on this machine and render that
	$(EXECUTE) --to $(LIVE)/notebooks $(NOTEBOOKS)
	ln -sfn $(addprefix ../../,_config.yml _toc.yml book reidlib results) $(LIVE)
	$(RENDER) $(LIVE)
	REIDLIB_BOOK=$(LIVE)/$(HTML) $(BIN)/python -m pytest tests/book/test_pages.py
	@echo "The book is ready: open $(CURDIR)/$(LIVE)/$(HTML)/index.html"

# Drawn before any notebook, whose outputs would hold the progress bar otherwise.
cities: $(INSTALLED)
	$(BIN)/python -c 'from reidlib.synthcity import ensure_synthcity; \
		[ensure_synthcity(size) for size in ("tiny", "course")]'

# One pytest run, so that its last line speaks for everything: the notebooks (nbval
# executes each once and compares it with its stored output), the examples in the
# docstrings, the unit tests, the book built from those very outputs with warnings as
# errors, and its pages opened in a browser. Limits of time are guards against a hang, far
# beyond what a slow machine needs. A file stays in one process, and the notebooks, which
# take longest, come first. Many processes import the library, which is compiled before
# for the case that Python is told to write no bytecode.
test: $(INSTALLED) ## Check style and types, run every test, notebook and page
	$(MAKE) --no-print-directory --jobs=$(WORKERS) types lint cities
	$(BIN)/python -m compileall -q reidlib notebooks/figures book tests
	OMP_NUM_THREADS=$$($(BIN)/python -c \
		'import os; print(max(1, (os.cpu_count() or 1) // $(WORKERS)))') \
	$(BIN)/python -m pytest --durations=10 --doctest-modules \
		--numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder \
		--nbval --nbval-current-env --nbval-sanitize-with tests/nbval_sanitize.cfg \
		--nbval-cell-timeout 3600 --nbval-kernel-startup-timeout 3600 \
		$(NOTEBOOKS) reidlib notebooks/figures book/figures tests

unit: $(INSTALLED) ## Run the unit tests alone
	$(BIN)/python -m pytest --doctest-modules reidlib notebooks/figures book/figures \
		tests --ignore tests/book

notebooks: $(INSTALLED) cities ## Execute the notebooks in place: the outputs that are committed
	$(EXECUTE) $(NOTEBOOKS)

times: $(INSTALLED) cities ## Measure how long each chapter runs, for the chapters' cards
	$(EXECUTE) --times $(NOTEBOOKS)

format: $(INSTALLED) ## Format code and notebooks, mend what ruff can mend
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lint: $(INSTALLED) ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED) ## Check types
	$(BIN)/mypy

bench: $(INSTALLED) ## Measure speed and memory against public peers
	for script in $(wildcard benchmarks/*.py); do \
		$(BIN)/python "$$script" || exit 1; done

clean: ## Remove what was built; the environment and the run cache stay
	rm -rf _build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find reidlib notebooks book tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## Remove the environment and the run cache as well
	rm -rf $(VENV) .cache

# uv installs the locked packages several times faster than pip, from the same hashes. It
# is taken from the lock file itself; where it cannot be had, pip does the same work. What
# is installed is compiled at once, as pip does: where Python is told to write no bytecode,
# each start of it would take half a minute longer.
$(INSTALLED): requirements.lock pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
		echo "No Python 3.11 or newer was found. Install one, or name it:" \
			"make PYTHON=/path/to/python3.11 book" >&2; exit 1; fi
	@if ! "$(PYTHON)" -c 'import ensurepip, venv' >/dev/null 2>&1; then \
		echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu:" \
			"apt-get install python3-venv" >&2; exit 1; fi
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)
	@awk '/^[a-z]/ {wanted = /^uv==/} wanted' requirements.lock > $(VENV)/uv.lock
	@echo "Installing the locked packages into $(VENV) (about 6 GB on Linux with CUDA)"
	@if $(BIN)/python -m pip install --quiet --disable-pip-version-check \
			--require-hashes --no-deps -r $(VENV)/uv.lock; \
	then install="$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python"; \
	else install="$(BIN)/python -m pip install --quiet --disable-pip-version-check"; fi; \
	$$install --require-hashes -r requirements.lock && \
	$$install --no-deps --no-build-isolation -e .
	@touch $@
