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
.PHONY: help install lint lint-fast check-notebooks hooks coverage mutate lock release lesson test test-offline test-slow test-slow-offline lab docs docs-serve docs-links export save results bench gpu imdb pretrain clean

help: ## list the targets
	@$(PYTHON) -c "import re; [print(f'make {m[1]:<17} {m[2]}') for m in re.finditer(r'^([\w-]+):.*?## (.+)$$', open('Makefile').read(), re.M)]"

install: $(VENV)/.installed ## make the environment, with pinned versions (done by the others when needed); CPU=1 without CUDA

# uv where it is installed, pip otherwise: the same packages. The CPU builds come from where PyTorch's documentation says.
UV := $(shell command -v uv 2>/dev/null)
CONSTRAINTS ?= constraints.txt
EXTRAS ?= dev,docs,cluster
TORCH_CPU ?= https://download.pytorch.org/whl/cpu
ifdef UV
MAKE_ENV := uv venv --quiet --seed --allow-existing --python "$$(command -v $(PYTHON))" $(VENV)
PIP := uv pip install --python $(PY)
else
MAKE_ENV := $(PYTHON) -m venv $(VENV)
PIP := $(PY) -m pip install $(if $(CI),-q)
endif

$(VENV)/.installed: $(CONSTRAINTS) settings.ini setup.py pyproject.toml
	@$(PYTHON) -c "import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f'lesson8nlp needs Python 3.11 or later; $(PYTHON) is {v.major}.{v.minor}. Name another one: make PYTHON=python3.12 ...')"
	@echo "Installing into $(VENV), once, with $(if $(UV),uv,pip). It takes some minutes. PyTorch, fastai, spaCy, JupyterLab and the tools come as packages:"
ifdef CPU
	@echo "about 0.5 GB to download and 1.5 GB on disk, with PyTorch's own build for CPUs."
else
	@echo "3.5 GB to download on Linux and 7 GB on disk, most of it PyTorch with CUDA. Without a GPU, 'make install CPU=1' saves about 3 GB of the download."
endif
	$(MAKE_ENV)
	$(if $(CPU),$(PIP) -c $(CONSTRAINTS) --index-url $(TORCH_CPU) torch torchvision)
	$(PIP) -c $(CONSTRAINTS) "setuptools>=77" wheel
	$(PIP) -c $(CONSTRAINTS) --no-build-isolation -e ".[$(EXTRAS)]"
	@$(PY) -c "open('$(VENV)/.installed', 'w').close()"

lesson: install ## run every lesson (about 15 minutes on two cores) into build/lesson/; with NB=02_tokenizer one of them
	@$(PY) tools/run_notebooks.py $(NB)

test: install ## check notebooks, package, site and wheel; with NB=02_tokenizer one notebook and its tests, in a minute or two
	$(PY) tools/run_tests.py $(or $(NB),--all)

test-offline: install ## once more what reads reviews, with an empty data folder and without a network
	$(PY) tools/run_tests.py --offline

test-slow: test ## the long tests too, on all cores (an hour or two)
	DOCS_BUILT=1 OMP_NUM_THREADS=1 $(PY) -m pytest -m slow -n logical --maxprocesses 4 --dist worksteal

test-slow-offline: install ## of the long tests those that read reviews, with an empty data folder and without a network
	$(PY) tools/run_tests.py --offline --slow

lint: install ## look for mistakes (ruff), spelling (codespell) and types (mypy)
	$(PY) tools/lint.py

lint-fast: install
	@$(PY) tools/lint.py --fast

check-notebooks: install
	@$(PY) tools/first_cell.py --check
	@$(PY) -m pytest --tb line tests/test_project.py -k "notebook_is_clean or package_is or readme_is"

hooks: install ## for contributors: nbdev's merge driver for notebooks, and checks before each commit
	git config merge.jupyternotebook.name "merge notebooks cell by cell, with nbdev"
	git config merge.jupyternotebook.driver "$(abspath $(BIN))/nbdev-merge %O %A %B %P"
	git config diff.jupyternotebook.command "$(abspath $(BIN))/nbdev-diff-driver"
	$(BIN)/pre-commit install

coverage: install ## how much of the package notebooks and tests together run (about an hour)
	$(PY) tools/run_tests.py --coverage

mutate: install ## change twenty conditions and defaults, and print those that no test notices (slow)
	$(PY) tools/mutate.py

lock: install ## find the newest versions of all packages that fit together, and write constraints.txt
	$(PY) tools/lock.py

release: install ## build source archive and wheel, check and install both; uploads nothing
	$(PY) tools/release.py

lab: install ## open JupyterLab on the notebooks
	$(BIN)/jupyter lab --notebook-dir nbs

docs: install ## build the site from the notebooks into build/docs/
	@$(PY) docs/build.py

docs-serve: install ## build the site, open it in the browser, and build again what changes
	@$(PY) docs/build.py --serve

docs-links: install ## follow the links to other sites (needs a network), and print those that are broken
	@$(PY) docs/build.py --links

export: install ## write the package and the README from the notebooks
	$(PY) tools/first_cell.py
	$(BIN)/nbdev-export
	$(PY) tools/readme.py

save: install ## run the lessons and keep their outputs and times in the repository
	$(PY) tools/run_notebooks.py --save --times
	$(PY) tools/run_notebooks.py --save $(sort $(wildcard nbs/answers/answers_*.ipynb nbs/howto/*.ipynb))
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
