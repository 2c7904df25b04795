"""Parts of a model that are not trained: no gradient, no optimiser state, no weight decay.

Parameters are nested dicts. Those that are trained are a smaller nested dict, over which the
gradient is taken and for which the optimiser is made, so that nothing is computed or kept for the
others. The language encoder is not among the parameters at all: embeddings are data.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import jax
from flax import traverse_util

from rt1_jax.models.frozen_statistics import under

Tree = dict[str, Any]


class FrozenError(ValueError):
    """A part to freeze that the model does not have, or nothing that is left to train."""


def trainable_mask(params: Tree, frozen: Sequence[str]) -> Tree:
    """Which parameters are trained.

    Args:
      params: nested dicts; leaves may be anything, such as shapes.
      frozen: paths of parts or single parameters, by whole components: "image_tokenizer" or
        "transformer/layer_0"; `*` within a component stands for anything
        (`rt1_jax.models.frozen_statistics.under`).

    Returns:
      True or False for each leaf, in the tree of `params`.

    Raises:
      FrozenError: a path that matches nothing (near ones are listed), or everything is frozen.
    """
    flat = traverse_util.flatten_dict(params)
    for prefix in frozen:
        if not any(under(path, prefix) for path in flat):
            raise FrozenError(
                f"config.frozen: no parameter is under {prefix!r}; {_suggest(flat, prefix)}"
            )
    mask = {path: not any(under(path, prefix) for prefix in frozen) for path in flat}
    if not any(mask.values()):
        raise FrozenError(f"config.frozen is {tuple(frozen)}: nothing is left to train")
    return traverse_util.unflatten_dict(mask)


def split(params: Tree, mask: Tree) -> tuple[Tree, Tree]:
    """`params` in two: what is trained, and what is frozen; each without the other's branches."""
    flat, which = traverse_util.flatten_dict(params), traverse_util.flatten_dict(mask)
    trained = {path: value for path, value in flat.items() if which[path]}
    fixed = {path: value for path, value in flat.items() if not which[path]}
    return traverse_util.unflatten_dict(trained), traverse_util.unflatten_dict(fixed)


def merge(trained: Tree, fixed: Tree) -> Tree:
    """What `split` made two of."""
    if not fixed:
        return trained
    both = {**traverse_util.flatten_dict(fixed), **traverse_util.flatten_dict(trained)}
    return traverse_util.unflatten_dict(both)


def trained_part(params: Tree, frozen: Sequence[str]) -> Tree:
    """The first of `split`, by the config's paths: what the optimiser is initialised with."""
    return split(params, trainable_mask(params, frozen))[0] if frozen else params


def frozen_line(params: Tree, frozen: Sequence[str]) -> str:
    """One line for people: how many numbers are trained and how many are not."""
    trained, fixed = split(params, trainable_mask(params, frozen))
    numbers = [sum(leaf.size for leaf in jax.tree.leaves(part)) for part in (trained, fixed)]
    return f"frozen: {', '.join(frozen)}; {numbers[0]:,} parameters trained, {numbers[1]:,} not"


def _suggest(flat: dict[tuple[str, ...], Any], wanted: str) -> str:
    parts = sorted({"/".join(path[:depth]) for path in flat for depth in range(1, len(path) + 1)})
    near = difflib.get_close_matches(wanted, parts, n=4, cutoff=0.5)
    # The last component's name, wherever it is.
    last = wanted.split("/")[-1]
    near += [part for part in parts if part.split("/")[-1] == last and part not in near][:4]
    if near:
        return f"did you mean {' or '.join(repr(part) for part in near[:5])}?"
    return f"the model's parts are {', '.join(sorted({path[0] for path in flat}))}"
