# make install | demo | test | bench: each sets up what it needs in .venv; a second call installs nothing.
# PYTHON=python3.12 make ... chooses the interpreter that .venv is made with.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test bench
install: .venv/.installed

demo: .venv/.installed
	rm -rf saved_model/demo
	$(BIN)/python main.py --arch i3d --dataset demo --name demo

test: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check
	$(BIN)/python -m pytest -n auto --dist worksteal

bench: .venv/.installed
	$(BIN)/python benchmarks/guard.py

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed; choose one with PYTHON=python3.12 make ...")'
	$(PYTHON) -m venv .venv

# visdom's only release needs an older setuptools to be built; without it everything but its page works
.venv/.installed: requirements.txt requirements-visdom.txt | .venv/bin/python
	$(BIN)/pip install -r requirements.txt
	$(BIN)/pip install 'setuptools<82' wheel && $(BIN)/pip install --no-build-isolation -r requirements-visdom.txt \
		&& $(BIN)/python -m utils.live_page.assets || echo 'Live curves will not be shown; they are drawn into the run folder.'
	touch $@

.venv/.installed-dev: requirements-dev.txt .venv/.installed
	$(BIN)/pip install -r requirements-dev.txt
	touch $@
