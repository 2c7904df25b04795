"""Policies of full size with random weights, for measuring: their numbers stay of order one."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from rt1_jax.actions import RT1 as ACTIONS
from rt1_jax.checkpoints import native
from rt1_jax.checkpoints.loaded import RT1_ENCODER, RT1_FRAME_RATE
from rt1_jax.models.bc_z import bc_z_config, bc_z_xl_config
from rt1_jax.models.config import rt1_config, rt1_x_config
from rt1_jax.models.gato import gato_config
from rt1_jax.models.registry import build

CONFIGS = {
    "rt1": ("rt1", rt1_config),
    "rt1_x": ("rt1", rt1_x_config),
    "bc_z": ("bc_z", bc_z_config),
    "bc_z_xl": ("bc_z", bc_z_xl_config),
    "gato": ("gato", gato_config),
}


def describe(name: str) -> native.PolicyDescription:
    """The description of a policy of `CONFIGS`, taking the robot's 256 x 320 pixels."""
    architecture, config = CONFIGS[name]
    return native.PolicyDescription(
        architecture=architecture,
        model=config().to_json(),
        action_spec=ACTIONS,
        encoder=RT1_ENCODER,
        embedding_statistics=None,
        image_size=(256, 320),
        frame_rate=RT1_FRAME_RATE,
        step=0,
        source={"made": "with random weights, to be measured"},
    )


def random_variables(description: native.PolicyDescription, seed: int = 0) -> dict[str, Any]:
    """Variables of a description's model, NumPy, drawn without running or compiling it."""
    model = build(description.architecture, description.model)
    config = model.config
    images = jax.ShapeDtypeStruct((1, config.frames, 300, 300, 3), np.uint8)
    embeddings = jax.ShapeDtypeStruct((1, config.embedding_size), np.float32)
    given = {}
    if config.decoding == "autoregressive":
        actions = (1, config.frames, config.action_tokens)
        given["action_tokens"] = jax.ShapeDtypeStruct(actions, np.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images, embeddings, **given)
    rng = np.random.default_rng(seed)

    def draw(path: Any, shape: Any) -> np.ndarray:
        layer, name = path[-2].key, path[-1].key
        values = rng.standard_normal(shape.shape, np.float32)
        if name in ("scale", "var"):
            return 1 + 0.1 * np.tanh(values)
        if name != "kernel" or len(shape.shape) < 2:
            return 0.1 * values
        if layer in ("add", "multiply"):  # of FiLM
            return 0.01 * values
        inputs = shape.shape[:2] if layer == "depthwise_conv" else shape.shape[:-1]
        if layer in ("query", "key", "value"):  # [d, heads, k]
            inputs = shape.shape[:1]
        return values / np.sqrt(np.prod(inputs), dtype=np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def parameter_count(variables: dict[str, Any]) -> int:
    """Numbers that training would change."""
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
