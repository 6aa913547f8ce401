# Each target does all of its own set-up; the second time that takes a moment.
PY := .venv/bin/python
SETUP := scripts/setup.sh

.PHONY: help demo test check test-devices lab wheel clean

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo:  ## read the words of a picture with streamed models; writes out/report.html
	@$(SETUP) venv demo,check
	@$(SETUP) opencl
	@$(PY) -m flashmem_lab.demo --out out

test:  ## every test, on every OpenCL device found
	@$(SETUP) venv dev
	@$(SETUP) opencl
	@$(SETUP) chromium
	@$(SETUP) adb
	@$(SETUP) frontend
	@$(PY) -m pytest

check:  ## format, lint, types, import rules; Python and TypeScript
	@$(SETUP) venv dev
	@$(SETUP) frontend
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@cd widgets && PATH="$(CURDIR)/.venv/bin:$$PATH" npm run --silent check

OPENCL := $(CURDIR)/.venv/opencl

test-devices:  ## the device tests on Intel's OpenCL too, then every kernel under oclgrind
	@$(SETUP) venv dev
	@$(SETUP) opencl
	@$(SETUP) devices
	@OCL_ICD_VENDORS=$(OPENCL)/vendors $(PY) -m pytest tests/device
	@# An interpreter has no rates to measure: profile's samples, 369 MB of weights, would fill the machine.
	@rm -f $(OPENCL)/oclgrind.log
	@OCL_ICD_VENDORS=$(OPENCL)/oclgrind OCLGRIND_DATA_RACES=1 OCLGRIND_LOG=$(OPENCL)/oclgrind.log \
	  $(PY) -m pytest tests/device/test_operators.py tests/device/test_planes.py tests/device/test_half.py \
	  tests/device/test_cli_runs.py \
	  --deselect tests/device/test_cli_runs.py::test_a_profile_is_measured_kept_and_used
	@if [ -s $(OPENCL)/oclgrind.log ]; then cat $(OPENCL)/oclgrind.log; exit 1; fi
	@echo "oclgrind found no race and no access out of bounds"

lab:  ## JupyterLab with the workbench
	@$(SETUP) venv build,demo,check
	@$(SETUP) opencl
	@$(SETUP) frontend
	@$(PY) -m flashmem_lab lab

wheel:  ## dist/*.whl
	@$(SETUP) venv dev
	@$(PY) -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:  ## what was built or measured; keeps .venv
	rm -rf build dist out .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
