"""Reads the TensorFlow original: training checkpoints (``ckpt-N``) and SavedModel variables."""

from __future__ import annotations

import dataclasses
import os
import pathlib

import numpy as np

from rt1_jax.checkpoints import policy_specs, tf_names
from rt1_jax.checkpoints.adam import AdamMoments
from rt1_jax.checkpoints.assemble import assemble, place
from rt1_jax.checkpoints.infer import infer_numbered_tf_config, infer_tf_config
from rt1_jax.checkpoints.loaded import Loaded
from rt1_jax.checkpoints.native import CheckpointError
from rt1_jax.checkpoints.tf_bundle import TFBundle
from rt1_jax.models.config import RT1Config

OPTIMIZER = "agent/_actor_optimizer"

UNKNOWN = "unknown name, outside the network"

_BOOKKEEPING = {
    "_CHECKPOINTABLE_OBJECT_GRAPH": "TensorFlow's object graph; names and shapes say the same",
    "save_counter": "TensorFlow's count of saves",
    "global_step": "read as the step",
    "train_step": "read as the step",
    f"{OPTIMIZER}/_iterations": "read with Adam's moments",
    f"{OPTIMIZER}/_learning_rate": "read with Adam's moments",
}


@dataclasses.dataclass(frozen=True)
class TFInventory:
    """Every tensor of a TensorFlow checkpoint, accounted for; made from the index alone.

    Attributes:
      format: ``tf_checkpoint`` or ``tf_saved_model``.
      config: inferred from names and shapes.
      network: the network's tensors; ``stored[i]`` is the i-th one's name in the file.
      stored: see ``network``.
      ignored: for every other tensor of the file, why it is not used as one of the network.
      moments: how many optimiser slots there are.
    """

    format: str
    config: RT1Config
    network: tuple[tf_names.NamedTensor, ...]
    stored: tuple[str, ...]
    ignored: dict[str, str]
    moments: int


def read_tf(prefix: str | os.PathLike[str]) -> Loaded:
    """Reads a training checkpoint or a SavedModel's variables.

    Args:
      prefix: ``.../ckpt-424760`` or ``.../variables/variables``. Bounds of the actions are those
        of a ``policy_specs.pbtxt`` beside it, and RT-1's where there is none.

    Raises:
      CheckpointError: no such files, another model, a tensor missing, damaged or of another
        shape; see also :class:`TFBundle`.
    """
    bundle = TFBundle(prefix)
    what = str(bundle.prefix)
    inventory = take_inventory(bundle)
    bundle.check_data()
    stored = dict(zip((t.name for t in inventory.network), inventory.stored, strict=True))
    variables = assemble(
        inventory.network, lambda name: bundle.read(stored[name] + tf_names.SUFFIX), what
    )
    moments = _read_moments(bundle, inventory.config) if inventory.moments else None
    step_name = "global_step" if inventory.format == "tf_checkpoint" else "train_step"
    step = _scalar(bundle, step_name)
    found = policy_specs.find_policy_specs(bundle.prefix)
    specs = policy_specs.read_policy_specs(found) if found else policy_specs.DEFAULT
    return Loaded(
        format=inventory.format,
        path=what,
        model_config=inventory.config,
        variables=variables,
        action_spec=dataclasses.replace(specs.action_spec, bins=inventory.config.bins),
        step=0 if step is None else int(step),
        ignored=inventory.ignored,
        optimizer_moments=moments,
        image_size=specs.image_size,
    )


def take_inventory(bundle: TFBundle) -> TFInventory:
    """Says what each tensor of the index is; needs no data.

    Raises:
      CheckpointError: a tensor is missing, unknown or of another shape.
    """
    what = str(bundle.prefix)
    shapes = {name.removesuffix(tf_names.SUFFIX): s for name, s in bundle.shapes.items()}
    numbered = {n: s for n, s in shapes.items() if n.startswith("model_variables/")}
    if numbered:
        config = infer_numbered_tf_config(numbered, what)
        network = tf_names.named_tensors(config)
        stored = tuple(f"model_variables/{i}" for i in range(1, len(network) + 1))
    elif any(name.startswith(f"{tf_names.ROOT}/") for name in shapes):
        config = infer_tf_config(shapes, what)
        network = tf_names.named_tensors(config)
        stored = tuple(tensor.name for tensor in network)
    else:
        raise CheckpointError(
            f"{what}: a TensorFlow checkpoint, but not of RT-1: neither {tf_names.ROOT}/... nor "
            "model_variables/N is in it"
        )
    for tensor, name in zip(network, stored, strict=True):
        if name not in shapes:
            raise CheckpointError(f"{what}: tensor {name!r} is missing")
        if shapes[name] != tensor.shape:
            raise CheckpointError(
                f"{what}: tensor {name!r} has shape {shapes[name]}, expected {tensor.shape}"
            )
    ignored = {
        name: tensor.ignored
        for tensor, name in zip(network, stored, strict=True)
        if tensor.path is None
    }
    slots = {name for name in shapes if name.startswith(f"{OPTIMIZER}/_variables/")}
    unknown = sorted(set(shapes) - set(stored) - slots - set(_BOOKKEEPING))
    if inside := [n for n in unknown if n.startswith((tf_names.ROOT, "model_variables"))]:
        raise CheckpointError(
            f"{what}: {len(inside)} tensors of the network are not RT-1's, the first is "
            f"{inside[0]!r}"
        )
    ignored |= dict.fromkeys(unknown, UNKNOWN)
    ignored |= {name: reason for name, reason in _BOOKKEEPING.items() if name in shapes}
    if slots:
        ignored |= _check_slots(shapes, slots, config, what)
    return TFInventory(
        "tf_saved_model" if numbered else "tf_checkpoint",
        config,
        network,
        stored,
        ignored,
        len(slots),
    )


def slot_names(config: RT1Config) -> list[tuple[str, tf_names.NamedTensor, str]]:
    """Adam's slots: (name in the file, the trainable tensor, ``"first"`` or ``"second"``)."""
    slots = []
    for i, tensor in enumerate(trainable_tensors(config)):
        slots.append((f"{OPTIMIZER}/_variables/{2 * i + 1}", tensor, "first"))
        slots.append((f"{OPTIMIZER}/_variables/{2 * i + 2}", tensor, "second"))
    return slots


def trainable_tensors(config: RT1Config) -> list[tf_names.NamedTensor]:
    """The network's trainable tensors in the order in which the original's optimiser has them.

    It is the order of creation: transformer, image tokenizer, dead action embedding; within
    attention query, key, value, output.
    """
    statistics = ("/moving_mean", "/moving_variance", "-0/mean", "-0/variance", "-0/count")
    trainable = [
        tensor for tensor in tf_names.named_tensors(config) if not tensor.name.endswith(statistics)
    ]
    return sorted(trainable, key=_creation_order)  # Stable: the rest is in order already.


def _creation_order(tensor: tf_names.NamedTensor) -> tuple[int, ...]:
    name = tensor.name.removeprefix(f"{tf_names.ROOT}/")
    if name.startswith("_transformer/_layers/"):
        parts = name.split("/")
        heads = ("_query_dense", "_key_dense", "_value_dense", "_output_dense")
        place = heads.index(parts[4]) if parts[3] == "mha1" else 0
        order = ("layernorm1", "mha1", "ff", "layernorm2").index(parts[3])
        return (0, int(parts[2]), order, place)
    embeddings = ("_transformer/_token_emb", "_transformer/_position_emb")
    for i, prefix in enumerate((*embeddings, "_transformer/_output_tokens")):
        if name.startswith(prefix):
            return (1, i)
    return (3,) if name.startswith("_action_token_emb") else (2,)


def _check_slots(
    shapes: dict[str, tuple[int, ...]], slots: set[str], config: RT1Config, what: str
) -> dict[str, str]:
    expected = {name: (tensor, moment) for name, tensor, moment in slot_names(config)}
    if odd := sorted(slots ^ set(expected)):
        raise CheckpointError(
            f"{what}: expected {len(expected)} optimiser slots, found {len(slots)}; the first that "
            f"does not fit is {odd[0]!r}"
        )
    for name, (tensor, _) in expected.items():
        if shapes[name] != tensor.shape:
            raise CheckpointError(
                f"{what}: tensor {name!r} has shape {shapes[name]}, expected {tensor.shape} of "
                f"{tensor.name!r}"
            )
    return {
        name: f"Adam's {moment} moment of dead weight"
        for name, (tensor, moment) in expected.items()
        if tensor.path is None
    }


def _read_moments(bundle: TFBundle, config: RT1Config) -> AdamMoments:
    moments: dict[str, dict] = {"first": {}, "second": {}}
    for name, tensor, moment in slot_names(config):
        if tensor.path is not None:
            value = bundle.read(name + tf_names.SUFFIX).astype(np.float32, copy=False)
            place(moments[moment], tensor.path[1:], value)
    iterations = _scalar(bundle, f"{OPTIMIZER}/_iterations")
    rate = _scalar(bundle, f"{OPTIMIZER}/_learning_rate")
    return AdamMoments(
        moments["first"],
        moments["second"],
        0 if iterations is None else int(iterations),
        None if rate is None else float(rate),
    )


def _scalar(bundle: TFBundle, name: str) -> float | None:
    name += tf_names.SUFFIX
    return bundle.read(name).item() if name in bundle.shapes else None


def find_prefix(path: pathlib.Path) -> pathlib.Path | None:
    """The checkpoint prefix that a path means, or None where it is no TensorFlow checkpoint.

    A prefix, its ``.index`` file, a SavedModel directory, its ``variables``, or a directory with
    one training checkpoint in it. Where a directory holds both kinds it is the SavedModel, whose
    weights are the ones deployed.
    """
    if path.suffix == ".index":
        path = path.with_suffix("")
    if path.with_name(path.name + ".index").is_file():
        return path
    for folder in (path / "variables", path):
        if (folder / "variables.index").is_file():
            return folder / "variables"
    found = sorted(path.glob("*.index")) if path.is_dir() else []
    if len(found) > 1:
        names = ", ".join(p.stem for p in found[:4])
        raise CheckpointError(f"{path} holds {len(found)} checkpoints: name one of {names}")
    return found[0].with_suffix("") if found else None
