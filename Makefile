# Every target creates its environment if it is missing; STACK=onedl uses the maintained forks, and
# OPS=1 compiles MMCV's operators.
STACK ?= default
VENV_default := .venv
VENV_onedl := .venv-onedl
VENV := $(or $(VENV_$(STACK)),$(error there is no stack '$(STACK)'; choose default or onedl))
PYTHON_IN_VENV := $(VENV)/bin/python
OPS ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help env demo zoo docs release test fuzz soak lint format types

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16
	@echo '  OPS=1 compiles the operators of MMCV; STACK=onedl uses the maintained forks, with operators;'
	@echo '  ARGS=... are arguments of demo, zoo, docs, fuzz and test.'

env: ## create or refresh the environment (.venv)
	@tools/make_env.sh $(STACK) $(if $(filter 1,$(OPS)),ops)
	@echo '$(VENV) is ready; activate it with: . $(VENV)/bin/activate'

.PHONY: $(VENV)
$(VENV):
	@tools/make_env.sh $(STACK) $(if $(filter 1,$(OPS)),ops)

demo: $(VENV) ## train and evaluate a small detector on handwritten digits
	@$(PYTHON_IN_VENV) tools/demo.py $(ARGS)

zoo: $(VENV) ## train the small configs (ARGS=NAMES for some of them) and write docs/zoo.md
	@$(PYTHON_IN_VENV) tools/zoo.py $(ARGS)

docs: $(VENV) ## build the documentation into site/
	@NO_MKDOCS_2_WARNING=1 PYTHONWARNINGS=ignore $(PYTHON_IN_VENV) -m mkdocs build --strict $(ARGS)

test: OPS := 1
test: $(VENV) ## run the test suite and the examples in the docstrings
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(PYTHON_IN_VENV) -m pytest \
		-n logical --maxprocesses 4 --dist loadfile $(ARGS)

release: docs ## build wheel, sdist, checkpoints of work_dirs, docs and checksums into dist/
	@$(PYTHON_IN_VENV) tools/release.py $(ARGS)

fuzz: $(VENV) ## run encoders and losses on random, partly invalid batches (ARGS=--batches N)
	@$(PYTHON_IN_VENV) tools/fuzz.py $(ARGS)

soak: $(VENV) ## train 20,000 steps and check that the memory does not grow
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(PYTHON_IN_VENV) tools/soak.py $(ARGS)

lint: $(VENV) ## check style and format
	@$(PYTHON_IN_VENV) -m ruff check .
	@$(PYTHON_IN_VENV) -m ruff format --check .

format: $(VENV) ## apply the style
	@$(PYTHON_IN_VENV) -m ruff check --fix .
	@$(PYTHON_IN_VENV) -m ruff format .

types: $(VENV) ## check the types of ops, losses and core
	@$(PYTHON_IN_VENV) -m mypy
