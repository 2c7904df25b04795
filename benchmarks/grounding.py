"""How soon a small policy listens: optimisers and conditionings of the sentence, side by side.

    python benchmarks/grounding.py --dataset=data/tabletop [--steps=1600] [--rows=0,3,4]

In the first steps of an episode the hand goes to what the instruction names, and nothing else tells
where. Each row trains the model of configs/tabletop.py, with one frame, on the first four steps of
all episodes but the last 300, in batches of 48, with a cosine schedule over `--steps`. Printed is
the mean absolute error of the hand's motion along x and y, in metres, on those 300, with averaged
weights: told right, and told another episode's instruction. Where the two are alike the policy does
not listen. The components are those of all the dataset's sentences. See docs/learning.md.
"""

from __future__ import annotations

import argparse
import pathlib
import runpy
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from rt1_jax.data.augmentation import Augmentation
from rt1_jax.data.store import StepStore
from rt1_jax.language.standardize import EmbeddingStatistics
from rt1_jax.models import registry
from rt1_jax.training.optimizer import make_optimizer
from rt1_jax.training.state import TrainState
from rt1_jax.training.step import StepOptions, make_eval_step, make_train_step

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIRST_STEPS, HELD_OUT, BATCH, COMPONENTS = 4, 300, 48, 24

Conditioning = Callable[[StepStore], np.ndarray]


def main() -> None:
    """Prints one line for each row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="data/tabletop")
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--rows", help="numbers of the rows, comma-separated; all by default")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if not pathlib.Path(given.dataset).exists():
        print(
            f"skipped: there is no dataset at {given.dataset}; make one with python -m "
            "rt1_jax.data.generate --skills=pick,move_near --image_size=64,64 "
            f"--output={given.dataset}"
        )
        return
    rows: list[tuple[str, Conditioning, float, float]] = [
        ("AdamW 2e-3, principal components", principal_components, 0.0, 2e-3),
        ("AdamW 5e-3, principal components", principal_components, 0.0, 5e-3),
        ("AdamW 2e-3, components that tell words", word_components, 0.0, 2e-3),
        ("AdamW 5e-3, components that tell words", word_components, 0.0, 5e-3),
        ("Muon 8e-3, principal components", principal_components, 0.2, 8e-3),
        ("Muon 8e-3, components that tell words", word_components, 0.2, 8e-3),
    ]
    chosen = map(int, given.rows.split(",")) if given.rows else range(len(rows))
    store = StepStore.open(given.dataset)
    frames = read_first_steps(store)
    print(f"{'row':42s} right x, y        other instruction  seconds")
    for row in chosen:
        name, conditioning, muon_rms, learning_rate = rows[row]
        started = time.perf_counter()
        errors = train(
            store, frames, conditioning(store), given.steps, muon_rms, learning_rate, given.seed
        )
        numbers = "   ".join(f"{x:.4f}, {y:.4f}" for x, y in errors)
        print(f"{name:42s} {numbers}     {time.perf_counter() - started:.0f}", flush=True)


def principal_components(store: StepStore) -> np.ndarray:
    """The loudest directions of the standardised embeddings, half whitened, of length two."""
    scaled = store.embeddings - store.embeddings.mean(0)
    scaled /= np.maximum(scaled.std(0), 1e-3)
    directions = np.linalg.svd(scaled, full_matrices=False)[2][:COMPONENTS]
    features = scaled @ directions.T
    features /= np.sqrt(features.std(0))
    return 2 * features / np.sqrt(np.square(features).sum(1).mean())


def word_components(store: StepStore) -> np.ndarray:
    """As in training."""
    rows, counts = np.unique(store.instruction_ids, return_counts=True)
    sentences = [store.instructions[row] for row in rows]
    statistics = EmbeddingStatistics.of(store.embeddings[rows], sentences, COMPONENTS, counts)
    return np.asarray(statistics.apply(store.embeddings))


def read_first_steps(store: StepStore) -> dict[str, Any]:
    """Frames [n, 1, h, w, 3], actions {field: [n, 1, size]} and episode [n] of the first steps."""
    parts = [store.read(e, 0, min(FIRST_STEPS, int(n))) for e, n in enumerate(store.lengths)]
    fields = parts[0].actions
    return {
        "images": np.concatenate([part.images for part in parts])[:, None],
        "actions": {
            name: np.concatenate([part.actions[name] for part in parts])[:, None] for name in fields
        },
        "episode": np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
    }


def train(
    store: StepStore,
    frames: dict[str, Any],
    features: np.ndarray,
    steps: int,
    muon_rms: float,
    learning_rate: float,
    seed: int,
) -> list[tuple[float, float]]:
    """Errors along x and y, told right and told wrong."""
    config = runpy.run_path(str(ROOT / "configs" / "tabletop.py"))["get_config"]()
    config.model.frames, config.model.embedding_size = 1, features.shape[1]
    config.optimizer.steps, config.optimizer.learning_rate = steps, learning_rate
    config.optimizer.muon_rms = muon_rms
    model = registry.build(config.architecture, config.model.to_dict())
    optimizer = make_optimizer(config.optimizer)
    told = features[store.instruction_ids].astype(np.float32)  # [episodes, components]
    wrong = np.roll(told, 1, axis=0)

    def batch(rows: np.ndarray, instructions: np.ndarray) -> dict[str, Any]:
        return {
            "images": frames["images"][rows],
            "embedding": instructions[frames["episode"][rows]],
            "actions": {name: value[rows] for name, value in frames["actions"].items()},
            "mask": np.ones((len(rows), 1), np.float32),
        }

    def init(key: jax.Array) -> TrainState:
        example = batch(np.arange(1), told)
        variables = model.init(key, example["images"], example["embedding"])
        return TrainState.create(variables, optimizer)

    state = jax.jit(init)(jax.random.key(seed))
    train_step = jax.jit(
        make_train_step(
            model,
            store.action_spec,
            optimizer,
            statistics=None,
            average_decay=0.99,
            augmentation=Augmentation.from_config(config.data),
            options=StepOptions(smoothing=config.smoothing),
        ),
        donate_argnums=0,
    )
    eval_step = jax.jit(make_eval_step(model, store.action_spec, statistics=None))
    held_out = frames["episode"] >= len(store) - HELD_OUT
    rng, key = np.random.default_rng(seed), jax.random.key(seed)
    for step in range(1, steps + 1):
        rows = rng.choice(np.flatnonzero(~held_out), BATCH, replace=False)
        state, _ = train_step(state, batch(rows, told), jax.random.fold_in(key, step))
    tests = np.flatnonzero(held_out)
    tests = tests[: len(tests) // BATCH * BATCH].reshape(-1, BATCH)
    errors = []
    for instructions in (told, wrong):
        found = [eval_step(state.average, batch(rows, instructions)) for rows in tests]
        x, y = (float(np.mean([f[f"error/world_vector/{a}"] for f in found])) for a in "xy")
        errors.append((x, y))
    return errors


if __name__ == "__main__":
    main()
