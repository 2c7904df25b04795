"""Maps drawn over the camera's frames: brighter is more weight, on the frame in dark grey."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from rt1_jax.analysis import map_measures as measures
from rt1_jax.analysis.attention import Looks
from rt1_jax.analysis.map_numbers import frame_attention
from rt1_jax.analysis.scenes import Scene
from rt1_jax.figures import house_style, new_figure

# Bright throughout, so that weight never darkens the frame beneath.
_HEAT = matplotlib.colors.ListedColormap(matplotlib.colormaps["inferno"](np.linspace(0.42, 1, 256)))
_PANEL = 1.15  # width of a small panel, inches
_PIXELS = 128  # a panel's height in the file, at most twice the frame's

Grid = tuple[int, int]


@house_style()
def draw_tokens(scene: Scene, looks: Looks, grid: Grid, step: int) -> Figure:
    """The frame and every token's map over it, with its entropy."""
    assert looks.maps is not None
    maps = looks.maps[step]  # [tokens, positions]
    columns = 3 if len(maps) <= 8 else 9
    rows = -(-(len(maps) + 1) // columns)
    figure = new_figure(1.85 * columns + 1.0, (1.8 * _aspect(scene) + 0.27) * rows + 0.35)
    axes = figure.subplots(rows, columns, squeeze=False)
    top = float(maps.max())
    _show(axes[0, 0], _enlarged(scene.images[step]), f"frame {step + 1} of {len(scene.images)}")
    nats = measures.entropy(maps)
    for token, place in enumerate(axes.flat[1 : len(maps) + 1]):
        _show(place, _overlay(scene.images[step], maps[token], grid, top))
        place.set_title(f"token {token + 1}: {nats[token]:.1f} nats")
    for place in axes.flat[len(maps) + 1 :]:
        place.axis("off")
    _mark(axes[0, 0], scene, step, scene.told[0].named)
    figure.suptitle(f"“{scene.told[0].text}”", fontsize=12)
    _colour_bar(figure, axes, top, f"weight of a cell ({grid[0]}×{grid[1]} grid)")
    return figure


@house_style()
def draw_over_time(scene: Scene, looks: Looks, grid: Grid, most: int = 8) -> Figure:
    """Tokens (rows) over frames of the episode (columns)."""
    assert looks.maps is not None
    count = len(scene.images)
    steps = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))
    tokens = _shown_tokens(looks.maps.shape[1])
    figure = new_figure(
        _PANEL * len(steps) + 1.7, (_PANEL * _aspect(scene) + 0.06) * (len(tokens) + 1) + 0.65
    )
    axes = figure.subplots(len(tokens) + 1, len(steps), squeeze=False)
    top = float(looks.maps.max())
    for column, step in enumerate(steps):
        _show(axes[0, column], _enlarged(scene.images[step]))
        axes[0, column].set_title(f"frame {step + 1}")
        _mark(axes[0, column], scene, int(step), scene.told[0].named)
        for row, token in enumerate(tokens, start=1):
            picture = _overlay(scene.images[step], looks.maps[step, token], grid, top)
            _show(axes[row, column], picture)
    _name_rows(axes, ["camera", *(f"token {token + 1}" for token in tokens)])
    figure.suptitle(f"“{scene.told[0].text}”", fontsize=12)
    _colour_bar(figure, axes, top, f"weight of a cell ({grid[0]}×{grid[1]} grid)")
    return figure


@house_style()
def draw_instructions(scene: Scene, looks: Sequence[Looks], grid: Grid, step: int) -> Figure:
    """The same frame under every instruction (rows); beneath, what moved from the first row's."""
    maps = np.stack([look.maps[step] for look in looks if look.maps is not None])
    tokens = _shown_tokens(maps.shape[1])
    height = (_PANEL * _aspect(scene) + 0.2) * len(maps) + 0.3
    figure = new_figure(_PANEL * (len(tokens) + 1) + 2.6, height)
    axes = figure.subplots(len(maps), len(tokens) + 1, squeeze=False)
    top = float(maps.max())
    moved = measures.total_variation(maps, maps[:1])  # [instructions, tokens]
    for row, told in enumerate(scene.told):
        _show(axes[row, 0], _enlarged(scene.images[step]))
        _mark(axes[row, 0], scene, step, told.named)
        for column, token in enumerate(tokens, start=1):
            place = axes[row, column]
            _show(place, _overlay(scene.images[step], maps[row, token], grid, top))
            if row == 0:
                place.set_title(f"token {token + 1}")
            else:
                place.set_xlabel(f"{moved[row, token]:.2f} moved", fontsize=9.5, labelpad=2)
    _name_rows(axes, [f"{_wrapped(told.text)}\n({told.kind})" for told in scene.told], size=9.5)
    _colour_bar(figure, axes, top, f"weight of a cell ({grid[0]}×{grid[1]} grid)")
    return figure


@house_style()
def draw_action_attention(
    scene: Scene, looks: Looks, grid: Grid, step: int, names: Sequence[str]
) -> Figure:
    """Attention of some action tokens put on the newest frame: last layer's, and through all."""
    weights = frame_attention(looks)
    assert weights is not None
    chosen = [i for i in _chosen_actions(names) if i < weights.shape[2]]
    figure = new_figure(1.4 * (len(chosen) + 1) + 1.9, (1.4 * _aspect(scene) + 0.06) * 2 + 0.65)
    axes = figure.subplots(2, len(chosen) + 1, squeeze=False)
    drawn = weights[step][:, chosen]  # [2, chosen, positions]
    top = float(drawn.max())
    for row in range(2):
        _show(axes[row, 0], _enlarged(scene.images[step]))
        _mark(axes[row, 0], scene, step, scene.told[0].named)
        for column in range(len(chosen)):
            place = axes[row, column + 1]
            _show(place, _overlay(scene.images[step], drawn[row, column], grid, top))
            if row == 0:
                place.set_title(_short(names[chosen[column]]), fontsize=10)
    _name_rows(axes, ["last layer", "through\nall layers"])
    figure.suptitle(f"“{scene.told[0].text}”, frame {step + 1}", fontsize=12)
    _colour_bar(figure, axes, top, "share in a cell")
    return figure


def _chosen_actions(names: Sequence[str]) -> list[int]:
    """One token a kind of motion, so that the columns stay large enough to read."""
    wanted = ("terminate", "world_vector/x", "world_vector/y", "world_vector/z", "gripper")
    found = [i for i, name in enumerate(names) if name.startswith(wanted)]
    return found[:6] or list(range(min(6, len(names))))


def _shown_tokens(count: int) -> list[int]:
    """All of the usual eight; of more, eight evenly spaced."""
    return [int(i) for i in np.unique(np.linspace(0, count - 1, min(count, 8)).round())]


def _aspect(scene: Scene) -> float:
    """Height of a frame over its width."""
    height, width = scene.image_size
    return height / width


def _overlay(image: np.ndarray, weights: np.ndarray, grid: Grid, top: float) -> np.ndarray:
    """float [h, w, 3]: the frame in dark grey under a heat map that is bright where weight is."""
    frame = _enlarged(image)
    grey = frame.mean(-1, keepdims=True) * 0.38
    heat = measures.upsample(weights, grid, frame.shape[:2]) / top  # [h, w], bilinear
    share = np.sqrt(np.clip(heat, 0, 1))[..., None]
    return np.clip(grey * (1 - share) + _HEAT(share[..., 0])[..., :3] * share, 0, 1)


def _enlarged(image: np.ndarray) -> np.ndarray:
    """A uint8 frame as floats in 0..1, small ones in visible pixels, large ones scaled down."""
    height, width = image.shape[:2]
    if height <= _PIXELS // 2:
        return image.repeat(2, axis=0).repeat(2, axis=1) / 255
    size = (round(width * _PIXELS / height), _PIXELS)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)) / 255


def _show(axes: Any, picture: np.ndarray, title: str = "") -> None:
    axes.imshow(picture, extent=(0, 1, 1, 0), aspect=picture.shape[0] / picture.shape[1])
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if title:
        axes.set_title(title)


def _mark(axes: Any, scene: Scene, step: int, thing: str | None) -> None:
    """A ring around an object, where its place is known."""
    if thing not in scene.places:
        return
    row, column = scene.places[thing][step] / scene.image_size
    if 0 <= row <= 1 and 0 <= column <= 1:
        for colour, width in (("black", 3.2), ("white", 1.4)):
            axes.plot(
                column, row, marker="o", markersize=17, markerfacecolor="none",
                markeredgecolor=colour, markeredgewidth=width, clip_on=True,
            )  # fmt: skip
        axes.set_xlim(0, 1)
        axes.set_ylim(1, 0)


def _name_rows(axes: Any, names: Sequence[str], size: float = 11) -> None:
    for place, name in zip(axes[:, 0], names, strict=True):
        place.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=size, labelpad=6)


def _colour_bar(figure: Figure, axes: Any, top: float, label: str) -> None:
    norm = matplotlib.colors.PowerNorm(0.5, 0, top)  # as _overlay takes the root
    bar = figure.colorbar(
        matplotlib.cm.ScalarMappable(norm, _HEAT), ax=axes, label=label, shrink=0.75, aspect=30
    )
    bar.set_ticks(
        [0, top / 16, top / 4, top], labels=[f"{v:.2g}" for v in (0, top / 16, top / 4, top)]
    )


def _wrapped(text: str, width: int = 24) -> str:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def _short(name: str) -> str:
    """world_vector/x -> Δx, gripper_closedness_action -> gripper."""
    field, _, element = name.partition("/")
    known = {"world_vector": "Δ", "rotation_delta": "Δ"}
    if field in known and element:
        return known[field] + element
    words = {
        "terminate_episode": "terminate",
        "gripper_closedness_action": "gripper",
        "base_displacement_vertical_rotation": "base turn",
        "base_displacement_vector": "base Δ",
    }
    return words.get(field, field.replace("_", " ")) + element
