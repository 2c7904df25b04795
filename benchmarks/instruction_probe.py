"""How much of what a policy was told is left in the first components of the sentence embedding.

    python benchmarks/instruction_probe.py --dataset=data/tabletop

A linear map, fitted by least squares to three quarters of the dataset's `move_near` sentences,
reads each of their four words of content from the components; printed is how often it is right on
the other quarter. What a linear map cannot read, FiLM's dense layers hardly can. Two kinds of
components are compared, each fitted without the sentences of the test: the principal ones, and
those that tell the words (`rt1_jax.language.standardize`), which training uses. See
docs/learning.md.
"""

from __future__ import annotations

import argparse
import pathlib
import re

import numpy as np

from rt1_jax.data.store import StepStore
from rt1_jax.language.standardize import EmbeddingStatistics

_SENTENCE = re.compile(r"\w+ the (\w+) (\w+) .*the (\w+) (\w+)")
_WORDS = ("target colour", "target shape", "reference colour", "reference shape")
_RIDGE = 1e-3


def main() -> None:
    """Prints one line for each number of components."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="data/tabletop")
    parser.add_argument("--components", default="8,16,24,48,64,96,128")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if not pathlib.Path(given.dataset).exists():
        print(
            f"skipped: there is no dataset at {given.dataset}; make one with python -m "
            f"rt1_jax.data.generate --skills=pick,move_near --output={given.dataset}"
        )
        return
    store = StepStore.open(given.dataset)
    matches = [(row, _SENTENCE.fullmatch(text)) for row, text in enumerate(store.instructions)]
    rows = np.array([row for row, match in matches if match])
    words = np.array([match.groups() for _, match in matches if match])  # [sentences, 4]
    if len(rows) < 100:
        raise SystemExit(
            f"{given.dataset} has {len(rows)} move_near sentences, 100 are needed: make episodes "
            "of that skill (python -m rt1_jax.data.generate --skills=pick,move_near)"
        )
    order = np.random.default_rng(given.seed).permutation(len(rows))
    train, test = np.split(order, [3 * len(order) // 4])
    print(f"{len(train)} sentences to fit, {len(test)} to test, seed {given.seed}")
    print("components      " + "  ".join(_WORDS))
    fit = np.setdiff1d(np.arange(len(store.instructions)), rows[test])
    told = [store.instructions[row] for row in fit]
    for components in (int(text) for text in given.components.split(",")):
        kinds = {
            "principal": _principal_components(store.embeddings, fit, components),
            "words": _word_components(store.embeddings, fit, told, components),
        }
        for kind, features in kinds.items():
            if features is None:
                continue
            right = [_accuracy(features[rows], words[:, i], train, test) for i in range(4)]
            columns = (f"{share:{len(name)}.0%}" for share, name in zip(right, _WORDS, strict=True))
            print(f"{components:4d} {kind:9s}  " + "  ".join(columns))


def _principal_components(embeddings: np.ndarray, fit: np.ndarray, components: int) -> np.ndarray:
    mean, std = embeddings[fit].mean(0), np.maximum(embeddings[fit].std(0), 1e-3)
    scaled = (embeddings - mean) / std
    directions = np.linalg.svd(scaled[fit], full_matrices=False)[2][:components]
    features = scaled @ directions.T
    return features / np.sqrt(features[fit].std(0))


def _word_components(
    embeddings: np.ndarray, fit: np.ndarray, told: list[str], components: int
) -> np.ndarray | None:
    try:
        return EmbeddingStatistics.of(embeddings[fit], told, components).apply(embeddings)
    except ValueError:  # more components than the words vary in
        return None


def _accuracy(
    features: np.ndarray, words: np.ndarray, train: np.ndarray, test: np.ndarray
) -> float:
    names, labels = np.unique(words, return_inverse=True)
    inputs = np.c_[features, np.ones(len(features))]
    gram = inputs[train].T @ inputs[train] + _RIDGE * np.eye(inputs.shape[1])
    weights = np.linalg.solve(gram, inputs[train].T @ np.eye(len(names))[labels[train]])
    return float(((inputs[test] @ weights).argmax(1) == labels[test]).mean())


if __name__ == "__main__":
    main()
