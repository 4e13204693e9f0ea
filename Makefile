# The targets of this project. `make help` lists them.
PYTHON ?= python3
VENV   ?= .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
PY := $(BIN)/python
export PYTHONUTF8 = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1
.DEFAULT_GOAL := help
.PHONY: help install lesson test test-offline test-slow lab docs docs-serve export save results bench gpu imdb pretrain clean

help: ## list the targets
	@$(PYTHON) -c "import re; [print(f'make {m[1]:<13} {m[2]}') for m in re.finditer(r'^([\w-]+):.*?## (.+)$$', open('Makefile').read(), re.M)]"

install: $(VENV)/.installed ## make the environment, with pinned versions (done by the others when needed)

$(VENV)/.installed: constraints.txt settings.ini setup.py pyproject.toml
	@$(PYTHON) -c "import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f'lesson8nlp needs Python 3.11 or later; $(PYTHON) is {v.major}.{v.minor}. Name another one: make PYTHON=python3.12 ...')"
	@echo "Installing into $(VENV): some minutes and about 4 GB, once ..."
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q -c constraints.txt setuptools wheel
	$(PY) -m pip install -q -c constraints.txt --no-build-isolation -e ".[dev]"
	@$(PY) -c "open('$(VENV)/.installed', 'w').close()"

lesson: install ## run every lesson from top to bottom; the executed notebooks land in build/lesson/
	@$(PY) tools/run_notebooks.py

test: install ## check notebooks, package, site and wheel; with NB=02_tokenizer one notebook and its tests, in seconds
ifdef NB
	$(PY) tools/run_tests.py $(NB)
else
	$(PY) -m pytest tests/test_project.py
	OMP_NUM_THREADS=1 $(BIN)/nbdev-test --do-print
	OMP_NUM_THREADS=1 $(PY) -m pytest -m "not slow" --ignore tests/test_project.py
endif

test-offline: install ## once more what reads reviews, with an empty data folder and without a network
	$(PY) tools/run_tests.py --offline

test-slow: test ## the long tests too
	OMP_NUM_THREADS=1 $(PY) -m pytest -m slow

lab: install ## open JupyterLab on the notebooks
	$(BIN)/jupyter lab --notebook-dir nbs

docs: install ## build the site from the notebooks into build/docs/
	@$(PY) docs/build.py

docs-serve: install ## build the site, open it in the browser, and build again what changes
	@$(PY) docs/build.py --serve

export: install ## write the package and the README from the notebooks
	$(BIN)/nbdev-export
	$(PY) tools/readme.py

save: install ## run the lessons and keep their outputs and times in the repository
	$(PY) tools/run_notebooks.py --save --times
	$(PY) tools/run_notebooks.py --save --times $(sort $(wildcard nbs/answers/answers_*.ipynb nbs/howto/*.ipynb))
	$(PY) tools/run_notebooks.py --save nbs/results.ipynb nbs/benchmarks.ipynb nbs/index.ipynb
	$(PY) tools/readme.py

results: install ## measure the ladder over five seeds again (about 10 minutes)
	OMP_NUM_THREADS=1 $(PY) tools/run_notebooks.py --save --flags slow nbs/07_lstm.ipynb

bench: install ## measure text -> ids -> batches beside fastai, spaCy and Hugging Face (about 10 minutes)
	$(PY) benchmarks/bench.py

gpu: install ## measure training, classifier and generation on a GPU beside fastai's fp16 learner
	$(PY) benchmarks/gpu.py

imdb: install ## the whole of IMDB on a GPU, from raw text to a classifier, forward and backward
	$(PY) benchmarks/imdb.py

pretrain: install ## train the language model that ships with the package (hours on one core; it goes on where it was)
	OMP_NUM_THREADS=1 $(PY) tools/pretrain.py

clean: ## remove what was built, but not the environment
	$(PYTHON) -c "import shutil; [shutil.rmtree(d, ignore_errors=True) for d in ('build', 'dist', 'lesson8nlp.egg-info')]"
