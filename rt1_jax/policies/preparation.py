"""A model and its weights made ready for inference: once, at load, so that no step does it again.

Batch normalisation is folded into the convolutions before it. What FiLM makes of an instruction is
computed once an instruction, on the host, and handed to every step as a row of numbers.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rt1_jax.models.batch_norm import fold_batch_norm
from rt1_jax.models.film import MODULATION, modulations
from rt1_jax.models.matrix_product import BFLOAT16_OPERANDS

# Kernels that are not operands of a matrix product: rounding them would gain nothing.
_NOT_PRODUCTS = ("depthwise_conv", "conv_1", "conv_2", "position_embedding")
_REMEMBERED = 1024  # instructions; about 30 kB each for the full RT-1


class Prepared:
    """What a policy computes with.

    Attributes:
      model: the Flax module, perhaps with another dtype.
      variables: on the device; batch normalisation folded, FiLM's kernels left out.

    Args:
      model: the Flax module.
      variables: as loaded, arrays of any kind.
      compute: ``"float32"``; or ``"bfloat16"``, which on CPU rounds the operands of matrix products
        and adds up in float32, and on accelerators computes all in bfloat16 but what the models
        keep in float32.
    """

    def __init__(self, model: Any, variables: Mapping[str, Any], compute: str) -> None:
        if compute not in ("float32", "bfloat16"):
            raise ValueError(f"compute is {compute!r}: expected 'float32' or 'bfloat16'")
        self.rounds = compute == "bfloat16" and jax.default_backend() == "cpu"
        if compute == "bfloat16" and not self.rounds:
            model = model.clone(config=dataclasses.replace(model.config, dtype="bfloat16"))
        self.model = model
        folded = fold(model, variables)
        folded["params"], self._film = _split_film(folded["params"])
        if compute == "bfloat16":
            folded = jax.tree_util.tree_map_with_path(_round_kernel, folded)
        self.variables = jax.device_put(folded)  # at once: 0.5 s sooner than one by one
        self._known: collections.OrderedDict[bytes, np.ndarray] = collections.OrderedDict()

    def instruct(self, embeddings: np.ndarray) -> np.ndarray:
        """What the model needs of conditioned embeddings: ``[n, e]`` to float32 ``[n, width]``.

        Rows seen before are remembered.
        """
        names = [row.tobytes() for row in embeddings]
        # Another thread may be forgetting rows.
        known = {name: row for name in names if (row := self._known.get(name)) is not None}
        new = {name: i for i, name in enumerate(names) if name not in known}
        if new:
            rows = embeddings[list(new.values())]
            told = np.concatenate(jax.tree.leaves(self._instruction(rows)), axis=-1)
            known.update(zip(new, told.astype(np.float32), strict=True))
            self._known.update((name, known[name]) for name in new)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return np.stack([known[name] for name in names])

    def told(self, rows: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
        """Rows of :meth:`instruct` as embeddings ``[n, e]`` and the variables with FiLM's part."""
        like = self._instruction(np.zeros((1, self.model.config.embedding_size), np.float32))
        leaves, structure = jax.tree.flatten(like)
        ends = np.cumsum([leaf.shape[-1] for leaf in leaves])[:-1]
        tree = jax.tree.unflatten(structure, jnp.split(rows, ends, axis=-1))
        return tree["embeddings"], {MODULATION: tree["modulation"]}

    def traced(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function as it is to be traced: with rounded operands, if that was asked for."""
        if not self.rounds:
            return function

        @functools.wraps(function)
        def rounded(*args: Any, **kwargs: Any) -> Any:
            with jax.default_matmul_precision(BFLOAT16_OPERANDS):
                return function(*args, **kwargs)

        return rounded

    def _instruction(self, embeddings: np.ndarray) -> dict[str, Any]:
        return {"embeddings": embeddings, "modulation": modulations(self._film, embeddings)}


def fold(model: Any, variables: Mapping[str, Any]) -> dict[str, Any]:
    """A model's variables, NumPy, with batch normalisation folded into the convolutions."""
    host = jax.tree.map(np.asarray, dict(variables))
    return fold_batch_norm(host, _epsilon(model.config))


def compiler_options() -> dict[str, Any]:
    """For the compiler, beside its defaults.

    On CPU loops over pixels take vectors of 512 bits, where there are any: XLA prefers 256.
    """
    return {"xla_cpu_prefer_vector_width": 512} if jax.default_backend() == "cpu" else {}


def _split_film(params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters without FiLM's, and FiLM's alone, in the same tree."""
    rest: dict[str, Any] = {}
    film: dict[str, Any] = {}
    for name, of in params.items():
        if isinstance(of, Mapping) and set(of) == {"add", "multiply"}:
            film[name] = of
        elif isinstance(of, Mapping):
            rest[name], inner = _split_film(of)
            if inner:
                film[name] = inner
        else:
            rest[name] = of
    return rest, film


def _epsilon(config: Any) -> float:
    """What the backbone's batch normalisation adds to the variance."""
    part = getattr(config, "image_tokenizer", config)
    backbone = getattr(part, "resnet", None) or getattr(part, "efficientnet", None)
    return getattr(backbone, "batch_norm_epsilon", 0.0)


def _round_kernel(path: Any, leaf: np.ndarray) -> np.ndarray:
    names = [getattr(key, "key", "") for key in path]
    operand = names[-1] == "kernel" and leaf.ndim > 1 and not {*names} & {*_NOT_PRODUCTS}
    return leaf.astype(jnp.bfloat16) if operand else leaf
