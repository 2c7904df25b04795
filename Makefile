# Each target does its own set-up (scripts/setup.sh), which is quick once it is done.
PYTHON_IN := .venv/bin/python
WORKERS ?= 2

export PYTHONUNBUFFERED := 1
# Large arrays on large pages: a training step asks for its memory anew each time (docs/speed.md).
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

.PHONY: help setup demo test lint bench lock tabletop-small experiments

help:
	@echo "make demo    set up, make data, train a small RT-1, evaluate it in closed loop, draw the report"
	@echo "make test    set up, run the test suite (ARGS=... are handed to pytest)"
	@echo "make lint    set up, ruff and mypy"
	@echo "make bench   set up, run the speed and memory benchmarks"
	@echo "make tabletop-small   make the policy that ships with the package anew (some 45 minutes)"
	@echo "make experiments   all experiments of docs/experiments.md (PRESET=small; hours)"
	@echo "make lock    pin the newest versions that setup.py allows (keeps pins that still fit)"

setup:
	@scripts/setup.sh

demo: setup
	$(PYTHON_IN) -m rt1_jax.demo $(ARGS)

# Tests that render in their own process run apart from those that load TensorFlow: Mesa's software
# renderer and TensorFlow crash in one process, whichever comes first (docs/tabletop.md).
RENDERING := tests/envs tests/data/test_generate.py
# A file's tests share what they have made, which may have taken minutes: they stay on one worker.
PARALLEL := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# More demonstrations and more steps than the demo, otherwise the same.
SMALL := tabletop-small
tabletop-small: setup
	$(PYTHON_IN) -m rt1_jax.data.generate --env=tabletop --skills=pick,move_near --episodes=8000 \
		--image_size=64,64 --seed=1 --output=data/$(SMALL)
	$(PYTHON_IN) train.py --config=configs/tabletop.py --workdir=runs/$(SMALL) \
		--config.data.directory=data/$(SMALL) --config.optimizer.steps=22000
	$(PYTHON_IN) eval.py --checkpoint=runs/$(SMALL) --split=all --episodes=200 \
		--output=runs/$(SMALL)/evaluation
	$(PYTHON_IN) -m rt1_jax.evaluation.ship --checkpoint=runs/$(SMALL) --name=$(SMALL) \
		--results=runs/$(SMALL)/evaluation/results.json --command="make $(SMALL)"

test: setup
ifdef ARGS
	$(PYTHON_IN) -m pytest $(PARALLEL) $(ARGS)
else
	$(PYTHON_IN) -m pytest $(PARALLEL) $(RENDERING)
	$(PYTHON_IN) -m pytest $(PARALLEL) $(addprefix --ignore=,$(RENDERING))
endif

lint: setup
	$(PYTHON_IN) -m ruff check .
	$(PYTHON_IN) -m ruff format --check .
	$(PYTHON_IN) -m mypy

# All experiments of docs/experiments.md; they share their runs, and go on where they stopped.
PRESET ?= small
experiments: setup
	@set -e; for name in film_ablation decoding baselines scaling; do \
		echo "== $$name"; $(PYTHON_IN) -m rt1_jax.analysis.$$name \
		--config=configs/experiments.py:$(PRESET) --output=out/$$name; \
	done
	$(PYTHON_IN) -m rt1_jax.analysis.token_maps --checkpoint=tabletop-small --output=out/token_maps

bench: setup
	@set -e; for script in benchmarks/*.py; do \
		echo "== $$script"; $(PYTHON_IN) "$$script" $(ARGS); \
	done

lock: setup
	$(PYTHON_IN) -m pip install --quiet uv
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(PYTHON_IN) -m uv pip compile setup.py --extra dev \
		--python-version 3.11 --python-platform x86_64-manylinux_2_36 \
		--no-emit-index-url --no-annotate --quiet --output-file requirements.lock
