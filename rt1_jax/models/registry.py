"""Architectures by name, as configs and checkpoints name them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flax import linen as nn

from rt1_jax.models.rt1 import RT1, RT1Config

_ARCHITECTURES: dict[str, tuple[type[nn.Module], type[Any]]] = {"rt1": (RT1, RT1Config)}


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
