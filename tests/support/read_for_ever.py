"""Reads batches with two worker processes until it is killed.

python tests/support/read_for_ever.py DATASET
"""

from __future__ import annotations

import itertools
import sys

from rt1_jax.data.loader import make_loader
from rt1_jax.data.store import StepStore

if __name__ == "__main__":
    loader = make_loader(StepStore.open(sys.argv[1]), frames=3, batch_size=4, seed=0, workers=2)
    for number, _ in enumerate(itertools.chain(loader)):
        if number == 3:
            print("reading", flush=True)
