"""A policy as pure functions of named arrays: what every artefact is made from.

Programs for other runtimes know neither Flax modules nor state classes. Here weights and state are
flat dictionaries of arrays; their names are the paths of the leaves, such as
``params/transformer/layer_0/attention/key/kernel`` and ``tokens``.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from rt1_jax.policies import steps
from rt1_jax.policies.preparation import fold
from rt1_jax.policies.streaming import Policy


class ExportError(ValueError):
    """A policy, or a request, that cannot be exported; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class StateLeaf:
    """One array of a policy's state.

    Attributes:
      shape: without the batch axis, which comes first.
      dtype: NumPy's name of it.
      initial: what every element is before an episode's first frame.
    """

    shape: tuple[int, ...]
    dtype: str
    initial: float


class PolicyFunctions:
    """The pure functions of a policy, their weights, and the shapes that they take.

    Attributes:
      description: of the policy.
      image_size: (height, width) of the frames; other sizes need another export.
      frames: of a whole window.
      logits_shape: of one robot's, (action_tokens, bins) or (outputs,).
      weights: {name: array}, on the host; batch normalisation is folded into convolutions.
      state: {name: StateLeaf}, in the order of the names.
    """

    def __init__(self, policy: Policy, image_size: tuple[int, int] | None = None) -> None:
        """Takes a policy apart.

        Raises:
          ExportError: an image size that is not two positive numbers, or a state that does not
            start with the batch or is not the same number everywhere at first.
        """
        self.description = policy.description
        self.image_size = tuple(image_size or policy.description.image_size)
        if len(self.image_size) != 2 or min(self.image_size) < 1:
            raise ExportError(
                f"image_size is {self.image_size}, expected height and width in pixels, such as "
                f"{','.join(map(str, policy.description.image_size))}"
            )
        config = policy.config
        self.frames: int = config.frames
        self.logits_shape: tuple[int, ...] = (
            (config.outputs,)
            if config.decoding == "continuous"
            else (config.action_tokens, config.bins)
        )
        self._model = policy.model
        variables = fold(policy.model, policy.variables)
        self._weights_structure = jax.tree.structure(variables)
        self.weights = _named(variables)
        first = policy.initial_state(1, keep=False)
        self._state_structure: Any = jax.tree.structure(first)
        self._state_names = list(_named(first))
        self.state = {name: _leaf(name, x) for name, x in sorted(_named(first).items())}

    def step(
        self, weights: dict[str, Any], state: dict[str, Any], images: Any, embeddings: Any
    ) -> tuple[dict[str, Any], dict[str, Any], Any]:
        """One control step.

        Args:
          weights: as ``self.weights``.
          state: {name: [b, ...]}, as ``self.state`` says.
          images: uint8 ``[b, h, w, 3]``.
          embeddings: float32 ``[b, d]``.

        Returns:
          the next state, ``{field: [b, size]}``, and float32 logits ``[b, action_tokens, bins]``,
          or ``[b, outputs]`` for a policy that regresses its actions.
        """
        structured = jax.tree.unflatten(
            self._state_structure, [state[name] for name in self._state_names]
        )
        # The one place that knows how `Policy.step` computes.
        after, action, logits = steps.step(
            self._model, self.description, self._variables(weights), structured, images, embeddings
        )
        if jax.tree.structure(after) != self._state_structure:
            raise ExportError("a step changes the structure of the state, which no program can")
        return _named(after), action, logits

    def logits(self, weights: dict[str, Any], images: Any, embeddings: Any) -> Any:
        """A whole window: uint8 ``[b, frames, h, w, 3]``, float32 ``[b, d]`` to its logits."""
        return steps.logits(
            self._model, self.description, self._variables(weights), images, embeddings
        )

    def step_arguments(self, batch: Any) -> tuple[Any, Any, Any, Any]:
        """Shapes of the arguments of :meth:`step`, for a batch size or a symbol of one."""
        state = {
            name: jax.ShapeDtypeStruct((batch, *leaf.shape), np.dtype(leaf.dtype))
            for name, leaf in self.state.items()
        }
        return self._weight_shapes(), state, *self._inputs((batch,), batch)

    def logits_arguments(self, batch: Any) -> tuple[Any, Any, Any]:
        """Shapes of the arguments of :meth:`logits`."""
        return self._weight_shapes(), *self._inputs((batch, self.frames), batch)

    def _inputs(self, lead: tuple[Any, ...], batch: Any) -> tuple[Any, Any]:
        dimensions = self.description.encoder.dimensions
        return (
            jax.ShapeDtypeStruct((*lead, *self.image_size, 3), np.uint8),
            jax.ShapeDtypeStruct((batch, dimensions), np.float32),
        )

    def _weight_shapes(self) -> dict[str, Any]:
        return {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in self.weights.items()}

    def _variables(self, weights: dict[str, Any]) -> Any:
        return jax.tree.unflatten(self._weights_structure, [weights[name] for name in self.weights])


def _named(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _leaf(name: str, leaf: Any) -> StateLeaf:
    array = np.asarray(leaf)
    if array.shape[:1] != (1,):
        raise ExportError(f"state {name!r} is {array.shape}, expected the batch axis first")
    values = np.unique(array)
    if values.size != 1:
        raise ExportError(f"state {name!r} does not start as the same number everywhere")
    return StateLeaf(array.shape[1:], str(array.dtype), values[0].item())
