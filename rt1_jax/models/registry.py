"""Architectures by name, as configs and checkpoints name them.

What training and policies ask of an architecture: a config with `frames`, `frame_shape`,
`action_tokens`, `embedding_size` and `decoding` ("parallel", "autoregressive" or "continuous"); and
a module with `__call__(images, embeddings, train)` for windows, `encode_frames(images, embeddings)`
and `decode_tokens(tokens)` for single steps, and `decode_actions(tokens, step, action_tokens)`
where decoding is autoregressive. `RT1`'s docstrings give the shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flax import linen as nn

from rt1_jax.models.bc_z import BCZ, BCZConfig
from rt1_jax.models.gato import Gato, GatoConfig
from rt1_jax.models.rt1 import RT1, RT1Config

_ARCHITECTURES: dict[str, tuple[type[nn.Module], type[Any]]] = {
    "rt1": (RT1, RT1Config),
    "bc_z": (BCZ, BCZConfig),
    "gato": (Gato, GatoConfig),
}


def build(architecture: str, config: Mapping[str, Any]) -> Any:
    """The Flax module of an architecture from its config as JSON values.

    Raises:
      ValueError: unknown architecture, or a config with unknown, missing or impossible values.
    """
    if architecture not in _ARCHITECTURES:
        raise ValueError(
            f"unknown architecture {architecture!r}: expected one of {sorted(_ARCHITECTURES)}"
        )
    module, config_type = _ARCHITECTURES[architecture]
    return module(config_type.from_json(config))
