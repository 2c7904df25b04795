"""A scene and where the policy looked in it -> numbers; many scenes -> means with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from rt1_jax.analysis import map_measures as measures
from rt1_jax.analysis.attention import Looks
from rt1_jax.analysis.intervals import MeanInterval, mean_interval
from rt1_jax.analysis.scenes import KINDS, OTHER_OBJECT, OWN, Scene, Told

NEXT_FRAME = "next frame"
RADIUS = 1 / 8
"""Of the disc around an object's centre, as a share of the frame's height."""

DEFINITIONS = {
    "averaging": "Every number is a mean over an episode's frames, then over episodes, each "
    "counting once; intervals are 95% (Student's t) over the episodes.",
    "entropy": "−Σ p ln p of a token's map over the grid, in nats; relative to ln(positions), "
    "the entropy of a map that looks everywhere alike.",
    "overlap": "Σ min(a, b) of two tokens' maps on the same frame: 1 for equal maps, 0 where they "
    "look at different cells.",
    "total_variation": "Share of a map's weight that moves to other cells when the policy is told "
    "another instruction on the same frame; next frame: from one frame to the next, same "
    "instruction.",
    "shift": "How far the map's centre of mass moves by the same change, in pixels of the frame.",
    "share": "Share of the weight within a disc of 1/8 of the frame's height around an object's "
    "centre, each cell's weight spread evenly over the cell. Every object of the scene is named in "
    "turn, in the wording of the scene's own instruction; not named are objects that the "
    "sentence does not mention. Uniform: what a map that looks everywhere alike would have there.",
    "attention": "Weights of the rows that the newest step's action tokens are read from, mean "
    "over the heads. On the frame: attention on the newest frame's image tokens × where these "
    "look, brought to a sum of one. All layers: attention rollout (Abnar and Zuidema 2020), the "
    "layers' attention multiplied, with half a unit matrix for the residual path.",
}


def measure(scene: Scene, looks: Sequence[Looks], grid: tuple[int, int]) -> dict[str, np.ndarray]:
    """All numbers of a scene, {name: array}; what cannot be measured is left out.

    Args:
      scene: the episode, t frames.
      looks: for each of `scene.told`.
      grid: (rows, columns) of the positions.

    Returns:
      entropy, relative_entropy [tokens]; overlap, cosine [tokens, tokens], mean_overlap,
      mean_cosine []; "KIND/total_variation", "KIND/shift" [tokens] for `KINDS` and NEXT_FRAME;
      attention_split [layers, 3], on the newest frame, older frames, action slots; shares around
      objects, see `_shares`.
    """
    found: dict[str, np.ndarray] = {}
    own = looks[0]
    if own.maps is not None:
        found |= _shapes(own.maps)
        size = scene.image_size
        for kind in KINDS:
            changed = [
                _change(own.maps, other.maps, grid, size)
                for told, other in zip(scene.told, looks, strict=True)
                if told.kind == kind and other.maps is not None
            ]
            if changed:
                found[f"{kind}/total_variation"], found[f"{kind}/shift"] = np.mean(changed, axis=0)
        if len(own.maps) > 1:
            changes = _change(own.maps[:-1], own.maps[1:], grid, size)
            found[f"{NEXT_FRAME}/total_variation"], found[f"{NEXT_FRAME}/shift"] = changes
    if own.attention is not None:
        newest = own.on_newest(own.attention).sum(-1)  # [t, layers, action_tokens]
        images = own.attention.sum((-2, -1))
        split = np.stack([newest, images - newest, 1 - images], -1)
        found["attention_split"] = split.mean((0, 2))
    return found | _shares(scene, looks, grid)


def summarize(scenes: Sequence[Mapping[str, np.ndarray]]) -> dict[str, MeanInterval]:
    """Means and intervals over the scenes that have a number."""
    names = dict.fromkeys(name for scene in scenes for name in scene)
    return {
        name: mean_interval([scene[name] for scene in scenes if name in scene]) for name in names
    }


def frame_attention(looks: Looks) -> np.ndarray | None:
    """Last layer's and rollout's attention on the newest frame: [t, 2, action_tokens, positions].

    Sums to one over the positions.
    """
    if looks.attention is None or looks.rollout is None:
        return None
    both = np.stack([looks.attention[:, -1], looks.rollout], 1)  # [t, 2, actions, frames, tokens]
    newest = looks.on_newest(both)
    maps = [None] * len(newest) if looks.maps is None else looks.maps
    pushed = np.stack([measures.through_maps(w, m) for w, m in zip(newest, maps, strict=True)])
    return pushed / np.maximum(pushed.sum(-1, keepdims=True), 1e-12)


def _shapes(maps: np.ndarray) -> dict[str, np.ndarray]:
    overlap, cosine = measures.overlap(maps).mean(0), measures.cosine(maps).mean(0)
    found = {
        "entropy": measures.entropy(maps).mean(0),
        "relative_entropy": measures.relative_entropy(maps).mean(0),
        "overlap": overlap,
        "cosine": cosine,
    }
    if len(overlap) > 1:
        found["mean_overlap"] = measures.pairs_mean(overlap)
        found["mean_cosine"] = measures.pairs_mean(cosine)
    return found


def _change(
    a: np.ndarray, b: np.ndarray, grid: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    """Total variation and shift of the centre between maps [t, tokens, positions]: [2, tokens]."""
    centres = [measures.centre_of_mass(maps, grid, size) for maps in (a, b)]
    shift = np.linalg.norm(centres[1] - centres[0], axis=-1)
    return np.stack([measures.total_variation(a, b).mean(0), shift.mean(0)])


def _shares(scene: Scene, looks: Sequence[Looks], grid: tuple[int, int]) -> dict[str, np.ndarray]:
    """Weight around objects that are named and that are not, on all frames and on the first.

    {"share/WHEN/named" and "share/WHEN/not named": [tokens], "attention/WHEN/...":
    [2, action_tokens] (last layer, rollout), "mean attention/WHEN/...": [2], over the action
    tokens, "share/WHEN/uniform": []}; empty unless two objects are known.
    """
    discs = _discs(scene, grid)
    asked = [
        (told, look)
        for told, look in zip(scene.told, looks, strict=True)
        if told.kind in (OWN, OTHER_OBJECT) and told.named in scene.places
    ]
    if len(asked) < 2:
        return {}
    found = {}
    for when, steps in (("all frames", slice(None)), ("first frame", slice(0, 1))):
        uniform = [disc[steps].mean(-1) for disc in discs.values()]
        found[f"share/{when}/uniform"] = np.asarray(np.nanmean(np.concatenate(uniform)))
        for name in ("share", "attention"):
            named: list[np.ndarray] = []
            rest: list[np.ndarray] = []
            for told, look in asked:
                weights = look.maps if name == "share" else frame_attention(look)
                if weights is None:
                    continue
                for thing, is_named in _mentioned(told, scene.places):
                    # [t, ..., positions] by [t, positions]; NaN where it is out of the picture
                    share = np.einsum("t...p,tp->t...", weights[steps], discs[thing][steps])
                    visible = share[np.isfinite(share).reshape(len(share), -1).all(-1)]
                    if len(visible):
                        (named if is_named else rest).append(visible.mean(0))
            if named and rest:
                found[f"{name}/{when}/named"] = np.mean(named, axis=0)
                found[f"{name}/{when}/not named"] = np.mean(rest, axis=0)
            if name == "attention" and named and rest:
                for which in ("named", "not named"):
                    whole = found[f"{name}/{when}/{which}"].mean(-1)
                    found[f"mean attention/{when}/{which}"] = whole
    return found


def _mentioned(told: Told, places: Mapping[str, np.ndarray]) -> Iterator[tuple[str, bool]]:
    """The object to handle (True), and those that the sentence does not mention (False)."""
    for thing in places:
        if thing == told.named or thing not in told.text:
            yield thing, thing == told.named


def _discs(scene: Scene, grid: tuple[int, int]) -> dict[str, np.ndarray]:
    """{object: [t, positions]}, shares of the cells' areas near it; NaN where it is not seen."""
    size = scene.image_size
    found = {}
    for thing, places in scene.places.items():
        seen: np.ndarray = np.all((places >= 0) & (places < np.asarray(size)), axis=-1)
        found[thing] = np.stack(
            [
                measures.disc(place, RADIUS * size[0], grid, size)
                if ok
                else np.full(grid[0] * grid[1], np.nan)
                for place, ok in zip(places, seen, strict=True)
            ]
        )
    return found
