# What is done here at the desk is what CI does. Works with GNU make 3.81 (macOS) and later.
# Each target sets up what it needs; `make clean setup PYTHON=/path/to/python` chooses the Python.

PY = .venv/bin/python
CORES = -n auto --dist loadfile  # one process a core, each with whole files of tests
READY = .venv/.ready
OLDEST = $(CURDIR)/build/duckdb-1.5
ENGINE_TESTS = $(wildcard tests/test_plan_*.py tests/test_tables_*.py tests/test_signs_*.py tests/test_moves_*.py tests/test_contract_*.py)
SPARKS = $(CURDIR)/build/spark-4.0 $(CURDIR)/build/spark-newest
SPARK_TESTS = tests/test_tables_spark.py tests/test_plan_asof.py tests/test_tables_quarantine.py

.PHONY: help setup demo test quick test-oldest test-spark check bench docs pins clean
.NOTPARALLEL:

help:  ## this list
	@sed -n -e 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{ printf "make %-12s %s\n", $$1, $$2 }'

setup: $(READY)  ## .venv with all that is needed; does nothing when it is there already

# no build isolation: the build tools are pinned too, and every pip understands it
$(READY): pyproject.toml constraints.txt
	@if [ ! -x $(PY) ]; then \
	  found=; bare=; \
	  for p in $(PYTHON) python3.13 python3.12 python3.11 python3; do \
	    $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    if $$p -c 'import ensurepip, venv' 2>/dev/null; then found=$$p; break; else bare=$$p; fi; \
	  done; \
	  if [ -z "$$found" ] && [ -n "$$bare" ]; then \
	    echo "$$bare is here, but it cannot make a virtual environment" >&2; \
	    echo "try: sudo apt install python3-venv   (Debian, Ubuntu), then: make setup" >&2; exit 1; \
	  elif [ -z "$$found" ]; then \
	    echo "there is no Python 3.11 or later: tried $(PYTHON) python3.13 python3.12 python3.11 python3" >&2; \
	    echo "try: sudo apt install python3 python3-venv   (Debian 12 or later, Ubuntu 24.04 or later)" >&2; \
	    echo "     brew install python@3.13   (macOS), or: make setup PYTHON=/path/to/python" >&2; exit 1; \
	  fi; \
	  echo "setting up .venv with $$($$found -V), about a minute, once …"; \
	  $$found -m venv .venv || exit 1; \
	else \
	  echo "bringing .venv up to date …"; \
	fi; \
	( $(PY) -m pip install -q -c constraints.txt setuptools wheel && \
	  $(PY) -m pip install -q --no-build-isolation -c constraints.txt -e '.[demo,dev]' ) > .venv/setup.log 2>&1 || \
	  { cat .venv/setup.log >&2; echo "setting up .venv failed; the reason stands above" >&2; exit 1; }
	@touch $@

demo: $(READY)  ## the story: a complaint, its cause, the fix, the pinned case
	@$(PY) examples/departures/demo.py

test: $(READY)  ## every test, the slow ones too (about ten minutes)
	@$(PY) -m pytest $(CORES)

quick: $(READY)  ## without the slow ones (about two minutes)
	@$(PY) -m pytest $(CORES) -m "not slow"

$(OLDEST)/.ready: $(READY)
	@rm -rf $(OLDEST)
	@$(PY) -m pip install -q --no-deps --target $(OLDEST) 'duckdb==1.5.*' > .venv/oldest.log 2>&1 || \
	  { cat .venv/oldest.log >&2; echo "duckdb 1.5 cannot be installed; the reason stands above" >&2; exit 1; }
	@touch $@

test-oldest: $(OLDEST)/.ready  ## what touches the engine, with the oldest DuckDB that we allow
	@PYTHONPATH=$(OLDEST) $(PY) -c 'import duckdb; v = duckdb.__version__; assert v.startswith("1.5."), v; print("with duckdb", v)'
	@if [ -z "$(ENGINE_TESTS)" ]; then echo "there are no tests of the engine"; exit 0; fi; \
	PYTHONPATH=$(OLDEST) $(PY) -m pytest $(CORES) $(ENGINE_TESTS); code=$$?; \
	if [ $$code -eq 5 ]; then echo "no test was collected (pytest exit 5)"; exit 0; fi; exit $$code

$(CURDIR)/build/spark-%/.ready: $(READY)
	@rm -rf $(@D)
	@echo "installing pyspark $* into build/spark-$* …"
	@$(PY) -m pip install -q --target $(@D) $(if $(filter newest,$*),pyspark,'pyspark==$*.*') > .venv/spark.log 2>&1 || \
	  { cat .venv/spark.log >&2; echo "pyspark $* cannot be installed; the reason stands above" >&2; exit 1; }
	@touch $@

test-spark: $(SPARKS:=/.ready)  ## what Spark computes, with Spark 4.0 and the newest, ANSI on and off
	@command -v java > /dev/null || { echo "there is no Java; try: sudo apt-get install openjdk-17-jre-headless" >&2; exit 1; }
	@for s in $(SPARKS); do \
	  PYTHONPATH=$$s $(PY) -W ignore -c 'import pyspark; print("with pyspark", pyspark.__version__)' || exit 1; \
	  PYTHONPATH=$$s $(PY) -m pytest $(SPARK_TESTS) || exit 1; \
	done

check: $(READY)  ## style, types, generated pages
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(PY) docs/make.py --check docs/cli.md docs/map.md docs/faults.md

bench: $(READY)  ## every bench/*.py --quick: its last line; fails if one does not hold
	@mkdir -p build/bench; failed=; \
	for b in $(wildcard bench/*.py); do \
	  log=build/bench/$$(basename $$b .py).log; \
	  if $(PY) $$b --quick > $$log 2>&1 && tail -n 1 $$log | grep -q '"holds": true'; then says=holds; else says=FAILS; failed="$$failed $$log"; fi; \
	  echo "$$b $$says: $$(tail -n 1 $$log)"; \
	done; \
	if [ -n "$$failed" ]; then echo "these do not hold, all of their output is in:$$failed" >&2; exit 1; fi

docs: $(READY)  ## writes docs/cli.md, docs/map.md and docs/faults.md, runs the sessions in the other pages
	@$(PY) docs/make.py

# in the oldest Python that we allow, so that the pins install on every later one
pins: $(READY)  ## constraints.txt anew, from the newest versions that pyproject.toml allows
	@$(PY) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "pins are made with Python 3.11; try: make clean && make pins PYTHON=python3.11" >&2; exit 1; }
	@echo "installing the newest versions into build/pins …"
	@rm -rf build/pins && $(PY) -m venv build/pins
	@build/pins/bin/python -m pip install -q -U setuptools wheel
	@build/pins/bin/python -m pip install -q --no-build-isolation '.[demo,dev]'
	@grep '^#' constraints.txt > build/pins/new.txt
	@build/pins/bin/python -m pip freeze --all | grep -v -i -E '^(underhood|pip)[ =]' >> build/pins/new.txt
	@mv build/pins/new.txt constraints.txt && rm -rf build/pins
	@echo "constraints.txt written; run make test before you keep it"

# never a record (.underhood): it cannot be made again
clean:  ## all that make made
	@rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find underhood tests docs bench examples -name __pycache__ -type d -prune -exec rm -rf {} +
