"""Whole checkpoints of recipe-made weights in every published form; no writer of ours."""

from __future__ import annotations

import pathlib
from typing import Any, Literal

import golden_reference
import numpy as np
from flax import serialization, traverse_util

from rt1_jax.checkpoints.tf_bundle import import_tensorflow
from rt1_jax.checkpoints.tf_names import SUFFIX
from rt1_jax.models.config import RT1Config

Form = Literal["tf_checkpoint", "tf_saved_model", "rt1_x_msgpack", "rt1_x_orbax"]


def write_tensors(prefix: pathlib.Path, named: dict[str, Any]) -> None:
    """A TensorFlow checkpoint of these tensors, by TensorFlow alone; names are without suffix."""
    tf = import_tensorflow()
    prefix.parent.mkdir(parents=True, exist_ok=True)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=[name + SUFFIX for name in named],
        shape_and_slices=[""] * len(named),
        tensors=[tf.constant(value) for value in named.values()],
    )


def write(
    shared: pathlib.Path, folder: pathlib.Path, form: Form, config: RT1Config, seed: int
) -> pathlib.Path:
    """Writes the recipe's weights of that seed into ``folder``; returns the path to load."""
    if form.startswith("tf_"):
        tensors = golden_reference.tf_tensors(shared, config, seed)
        if form == "tf_checkpoint":
            write_tensors(folder / "ckpt-5", tensors)
            return folder / "ckpt-5"
        numbered = {f"model_variables/{i}": v for i, v in enumerate(tensors.values(), start=1)}
        write_tensors(folder / "variables" / "variables", numbered)
        return folder
    flat: dict[str, np.ndarray] = golden_reference.rt1_x_tensors(shared, config, seed)
    tree = traverse_util.unflatten_dict(flat, sep="/")
    path = folder / "checkpoint_0"
    if form == "rt1_x_msgpack":
        path.write_bytes(serialization.msgpack_serialize(tree))
        return path
    import orbax.checkpoint as ocp

    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(path, tree)
    return path
