# make train · make test: two commands on a fresh machine. Everything else is below.
PYTHON ?= python3
VENV ?= .venv
# FAISS for the GPU where there is one; `make install FAISS=cpu` says otherwise.
FAISS ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed-$(FAISS)
export OMP_WAIT_POLICY ?= passive

.PHONY: install train test test-all test-lowest check audit wheel-test reproduce format clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "ccreid needs Python 3.11 to 3.13, $(PYTHON) is another: make PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "Could not make $(VENV). On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[$(FAISS),dev]"
	@touch $@

train: install
	$(BIN)/python -m ccreid.train method=fire2 data=virtual

test: install
	$(BIN)/python -m pytest -m "not slow"

test-all: install
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive ccreid experiments

# Known vulnerabilities of all that is installed. It asks the package index, so it is no part of
# `check`; a package that could not be looked up, or no answer, is a failure.
audit: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[audit]"
	@mkdir -p build
	$(BIN)/python -m pip freeze --all --exclude-editable > build/installed.txt
	sed -i.bak 's/+[A-Za-z0-9.]*$$//' build/installed.txt
	$(BIN)/pip-audit --strict --disable-pip --no-deps --requirement build/installed.txt

# The oldest versions that pyproject.toml allows; torch and torchvision are those of `install`.
LOWEST ?= .venv-lowest
test-lowest: install
	test -x $(LOWEST)/bin/uv || { $(PYTHON) -m venv $(LOWEST) && \
	  $(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check uv; }
	$(BIN)/python -m pip freeze | grep -E '^(torch|torchvision)==' > $(LOWEST)/torch.txt
	sed 's/+.*//' $(LOWEST)/torch.txt | $(LOWEST)/bin/uv pip compile --quiet --no-header --no-annotate \
	  --resolution lowest-direct --constraint - --extra cpu --extra dev pyproject.toml \
	  | grep -vE '^(torch|torchvision|triton|nvidia-[a-z0-9-]*|cuda-[a-z0-9-]*)==' > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check \
	  -r $(LOWEST)/torch.txt -r $(LOWEST)/lowest.txt -e .
	$(LOWEST)/bin/python -m pytest -m "not slow"

# The wheel alone, in an environment of its own, outside the checkout.
wheel-test: install
	rm -rf dist && $(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	@set -e; outside=$$(mktemp -d); trap 'rm -rf "$$outside"' EXIT; \
	$(PYTHON) -m venv "$$outside/venv"; \
	"$$outside/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
	  "$$(ls $(CURDIR)/dist/*.whl)[$(FAISS),weights]"; \
	cd "$$outside"; \
	venv/bin/python -m ccreid.train method=fire2 data=virtual debug=fast hydra.run.dir=run; \
	test -s run/metrics.json; test -s run/pictures/ranked_cc.png

# make reproduce EXP=fire2_prcc SEEDS=3 ARGS="trainer=ddp trainer.devices=2": trains a recipe and
# writes experiments/<EXP>/.
SEEDS ?= 3
ARGS ?=
reproduce: install
	@test -n "$(EXP)" || { echo "Say which recipe: make reproduce EXP=fire2_prcc SEEDS=3"; exit 1; }
	$(BIN)/python experiments/reproduce.py $(EXP) --seeds $(SEEDS) -- $(ARGS)

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(LOWEST) outputs build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
