"""Writes a policy as a checkpoint of the TensorFlow original, in the original's names.

The file restores into the original's objects with ``tf.train.Checkpoint(agent=agent)``, or into
its SavedModel's ``variables`` directory: what is trained here runs in the original code.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from rt1_jax import preprocessing
from rt1_jax.checkpoints import tf_names
from rt1_jax.checkpoints.adam import AdamMoments
from rt1_jax.checkpoints.assemble import lookup
from rt1_jax.checkpoints.native import CheckpointError
from rt1_jax.checkpoints.tf_bundle import import_tensorflow
from rt1_jax.checkpoints.tf_reader import OPTIMIZER, slot_names
from rt1_jax.models.config import RT1Config


def write_tf(
    prefix: str | os.PathLike[str],
    config: RT1Config,
    variables: Mapping[str, Any],
    *,
    step: int = 0,
    kind: Literal["tf_checkpoint", "tf_saved_model"] = "tf_checkpoint",
    moments: AdamMoments | None = None,
) -> None:
    """Writes ``prefix.index`` and ``prefix.data-00000-of-00001``.

    Args:
      prefix: e.g. ``out/ckpt-1000``, or ``out/variables/variables`` for a SavedModel.
      config: of a model that the original can hold: see Raises.
      variables: ``{"params", "batch_stats"}``.
      step: optimiser steps.
      kind: object names of a training checkpoint, or a SavedModel's numbered variables.
      moments: Adam's state, for a training checkpoint.

    Raises:
      CheckpointError: the model differs from the original in what its names or code can say, or
        the checkpoint exists.
    """
    prefix = pathlib.Path(prefix)
    _check_representable(config)
    if prefix.with_name(prefix.name + ".index").exists():
        raise CheckpointError(f"{prefix}.index exists already: remove it or choose another name")
    tensors = network_tensors(config, variables)
    step_value = np.asarray(step, np.int64)
    if kind == "tf_saved_model":
        named = {f"model_variables/{i}": v for i, v in enumerate(tensors.values(), start=1)}
        named["train_step"] = step_value
    else:
        named = {**tensors, "global_step": step_value}
        if moments is not None:
            named |= _optimizer_tensors(config, moments)
    _write(prefix, named)


def network_tensors(config: RT1Config, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The original's network tensors by object name, in SavedModel order; dead weight is zero."""
    tensors: dict[str, np.ndarray] = {}
    for tensor in tf_names.named_tensors(config):
        if tensor.path is not None:
            value = lookup(variables, tensor.path).astype(np.float32).reshape(tensor.shape)
        elif tensor.name.endswith("/layer_with_weights-0/mean"):
            value = np.asarray(preprocessing.IMAGENET_MEAN, np.float32)
        elif tensor.name.endswith("/layer_with_weights-0/variance"):
            # The released checkpoints hold standard deviations under this name.
            value = np.asarray(preprocessing.IMAGENET_STD, np.float32)
        elif tensor.name.endswith("/layer_with_weights-0/count"):
            value = np.zeros((), np.int64)
        else:
            value = np.zeros(tensor.shape, np.float32)
        tensors[tensor.name] = value
    return tensors


def _optimizer_tensors(config: RT1Config, moments: AdamMoments) -> dict[str, np.ndarray]:
    named: dict[str, np.ndarray] = {
        f"{OPTIMIZER}/_iterations": np.asarray(moments.iterations, np.int64),
    }
    if moments.learning_rate is not None:
        named[f"{OPTIMIZER}/_learning_rate"] = np.asarray(moments.learning_rate, np.float32)
    for name, tensor, moment in slot_names(config):
        tree = moments.first if moment == "first" else moments.second
        value = np.zeros(tensor.shape) if tensor.path is None else lookup(tree, tensor.path[1:])
        named[name] = value.astype(np.float32).reshape(tensor.shape)
    return named


def _check_representable(config: RT1Config) -> None:
    tokenizer, transformer = config.image_tokenizer, config.transformer
    differences = {
        "SAME padding": tokenizer.efficientnet.padding != "keras",
        "coordinate channels": tokenizer.efficientnet.coordinate_channels != 0,
        "no TokenLearner": tokenizer.token_learner is None,
        "such TokenLearner": getattr(tokenizer.token_learner, "masks", "") == "sigmoid",
        "such backbone": tokenizer.resnet is not None or not tokenizer.projection,
        "such way of the instruction": (tokenizer.language, tokenizer.film) != ("film", "residual"),
        "such way of decoding": (config.decoding, config.readout) != ("parallel", "slots"),
        "such transformer layers": transformer.normalization != "pre"
        or transformer.final_norm
        or not transformer.position_embedding
        or transformer.layers == 0,
        "a SwiGLU feed-forward": transformer.feed_forward != "linear",
        "feed-forward layers without bias": not transformer.feed_forward_bias,
        "another attention mask": not transformer.images_see_past_actions,
    }
    if found := [name for name, differs in differences.items() if differs]:
        raise CheckpointError(
            f"this model cannot run in the TensorFlow original, which has no {found[0]!r}"
        )


def _write(prefix: pathlib.Path, named: Mapping[str, np.ndarray]) -> None:
    """Builds the object graph that the names spell, so that objects can be restored from it."""
    tf = import_tensorflow()
    tree: dict[str, Any] = {}
    for name, value in named.items():
        node = tree
        *parents, leaf = name.split("/")
        for key in parents:
            node = node.setdefault(key, {})
        node[leaf] = value

    def build(node: Any) -> Any:
        if isinstance(node, dict):
            return tf.train.Checkpoint(**{key: build(child) for key, child in node.items()})
        return tf.Variable(node)

    prefix.parent.mkdir(parents=True, exist_ok=True)
    temporary = prefix.with_name(f".{prefix.name}.partial")
    with tf.device("/CPU:0"):
        root = build(tree)
        root.save_counter.assign_add(1)  # Which tf.train.Checkpoint expects to find again.
        root.write(str(temporary))
    # The index goes last: without it there is no checkpoint.
    for suffix in (".data-00000-of-00001", ".index"):
        os.replace(f"{temporary}{suffix}", f"{prefix}{suffix}")
