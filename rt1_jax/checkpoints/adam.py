"""Adam's state as checkpoints hold it, and on into optax."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optax


@dataclasses.dataclass(frozen=True)
class AdamMoments:
    """Adam's state, so that a training can be continued.

    Attributes:
      first: running means of the gradients, in the structure of ``params``.
      second: running means of their squares, likewise.
      iterations: optimiser steps taken.
      learning_rate: the last one used, if the checkpoint says it.
    """

    first: dict[str, Any]
    second: dict[str, Any]
    iterations: int
    learning_rate: float | None

    def to_optax(self) -> optax.ScaleByAdamState:
        """The state of ``optax.scale_by_adam`` at the same point of training."""
        import jax
        import jax.numpy as jnp
        import optax

        first, second = (jax.tree.map(jnp.asarray, tree) for tree in (self.first, self.second))
        return optax.ScaleByAdamState(jnp.asarray(self.iterations, jnp.int32), first, second)

    def put_into(self, opt_state: Any) -> Any:
        """A fresh optimiser state with its one Adam's state replaced by this one.

        Schedules in it still start from their first step.

        Args:
          opt_state: ``optimizer.init(params)`` of an optax optimiser that has Adam for every
            parameter (``optax.adam``, ``optax.adamw``, or a chain with one of them).

        Raises:
          ValueError: no Adam in it, several, or one for other parameters.
        """
        import jax
        import optax

        def is_adam(node: Any) -> bool:
            return isinstance(node, optax.ScaleByAdamState)

        leaves, structure = jax.tree.flatten(opt_state, is_leaf=is_adam)
        places = [i for i, leaf in enumerate(leaves) if is_adam(leaf)]
        if len(places) != 1:
            raise ValueError(f"the optimiser's state has {len(places)} states of Adam, expected 1")
        new, old = self.to_optax(), leaves[places[0]]
        if _shapes(new) != _shapes(old):
            raise ValueError(
                "the optimiser's state is not of the parameters that the moments belong to: "
                "initialise it with this checkpoint's params"
            )
        leaves[places[0]] = new
        return jax.tree.unflatten(structure, leaves)


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    import jax

    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in leaves}
