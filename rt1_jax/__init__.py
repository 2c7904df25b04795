"""RT-1 (Robotics Transformer, Brohan et al. 2022) in JAX: train, evaluate, analyse, deploy.

    policy = rt1_jax.load_policy("tabletop-small")
    state = policy.initial_state(batch_size=1)
    embedding = policy.embed(["pick up the red block"])
    state, action = policy.step(state, image, embedding)

Submodules are imported where they are used, so that `import rt1_jax` is quick and pulls in neither
TensorFlow nor MuJoCo.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from rt1_jax import envs as envs
    from rt1_jax.policies.load import load_policy as load_policy
    from rt1_jax.policies.streaming import Policy as Policy

_PUBLIC = {
    "load_policy": ("rt1_jax.policies.load", "load_policy"),
    "Policy": ("rt1_jax.policies.streaming", "Policy"),
    "envs": ("rt1_jax.envs", ""),
}

__all__ = ["Policy", "__version__", "envs", "load_policy"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'rt1_jax' has no attribute {name!r}")
    import importlib

    place, attribute = _PUBLIC[name]
    module = importlib.import_module(place)
    return getattr(module, attribute) if attribute else module
