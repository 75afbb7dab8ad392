# make demo    simulate a small data set, process it, tell where the pages are
# make test    all tests but the long ones
# make check   linters, types and the import contract
# make bench   our kernels beside their peers
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
DEMO ?= demo

.PHONY: demo test check validate bench docs clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed
	rm -rf $(DEMO)
	$(BIN)/mrn_prep-phantom $(DEMO)/bids --sites 2 --participants-per-site 2 --motion 1 1 --eddy 2
	$(BIN)/mrn_prep $(DEMO)/bids $(DEMO)/out participant -d rois=$(DEMO)/bids/derivatives/rois
	$(BIN)/mrn_prep $(DEMO)/bids $(DEMO)/out group
	@echo
	@echo "pages   $(DEMO)/out/sub-*.html and $(DEMO)/out/group.html"
	@echo "tables  $(DEMO)/out/group/ and $(DEMO)/out/sub-*/"
	@echo "truth   $(DEMO)/bids/derivatives/truth/"

test: $(VENV)/.installed
	$(BIN)/pytest -n auto -q

validate: $(VENV)/.installed
	$(BIN)/pytest -q -m long

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

docs: $(VENV)/.installed
	$(BIN)/python docs/make_outputs.py

clean:
	rm -rf $(VENV) $(DEMO) build *.egg-info
