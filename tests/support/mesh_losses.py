"""Losses of the first steps on several meshes of virtual devices, as JSON; see test_meshes.py.

python tests/support/mesh_losses.py DATASET STEPS
"""

from __future__ import annotations

import functools
import json
import sys
from typing import Any

import jax
import small
from run_training import apply

from rt1_jax.data.training_data import open_training_data
from rt1_jax.training.program import make_program
from rt1_jax.training.sharding import make_mesh, put_batch

CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "one device": (1, {}),
    "8 data": (8, {}),
    "8 fsdp": (8, {"mesh.fsdp": 8}),
    "4 x 2": (8, {"mesh.fsdp": 2}),
    "accumulated, one device": (1, {"step.accumulate": 2}),
    "accumulated, 2 x 2": (4, {"step.accumulate": 2, "mesh.fsdp": 2}),
    "statistics of four replicas": (4, {"step.batch_statistics": "replica"}),
}


def losses(dataset: str, devices: int, changes: dict[str, Any], steps: int) -> list[float]:
    config = small.small_config(dataset)
    apply(config, {"batch_size": 8, "mesh.shard_from": 64, **changes})
    # What is drawn at random is part of what must be the same.
    apply(config, {"model.transformer.dropout_rate": 0.1})
    data = open_training_data(
        config.data.to_dict(),
        config.loader.to_dict(),
        frames=config.model.frames,
        embedding_size=config.model.embedding_size,
        batch_size=8,
        seed=0,
    )
    mesh = make_mesh(config.mesh, jax.devices()[:devices])
    program = make_program(
        config,
        mesh,
        action_spec=data.action_spec,
        image_size=data.image_size,
        statistics=data.statistics,
    )
    state, found = program.init(), []
    batches = data.batches(functools.partial(put_batch, mesh))
    for step in range(1, steps + 1):
        key = jax.random.fold_in(jax.random.key(0), step)
        state, metrics = program.train_step(state, next(batches), key)
        found.append(float(metrics["loss"]))
    split = [x for x in jax.tree.leaves(state.params) if not x.is_fully_replicated]
    assert bool(split) == (mesh.shape["fsdp"] > 1)
    return found


if __name__ == "__main__":
    dataset, steps = sys.argv[1], int(sys.argv[2])
    print(json.dumps({name: losses(dataset, *case, steps) for name, case in CASES.items()}))
