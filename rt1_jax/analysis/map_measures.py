"""Numbers of token maps: how wide a map is, how much two have in common, how far one moved.

A map is a distribution over the positions of a feature grid, [..., positions] in row-major order,
and sums to one. All is float64 NumPy.
"""

from __future__ import annotations

import numpy as np
from PIL import Image


def entropy(maps: np.ndarray) -> np.ndarray:
    """−Σ p ln p in nats: [...], from 0 (one position) to ln(positions) (all alike)."""
    p = np.asarray(maps, np.float64)
    return -np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0).sum(-1)


def relative_entropy(maps: np.ndarray) -> np.ndarray:
    """Entropy over that of the uniform map: [...], 0..1."""
    return entropy(maps) / np.log(np.shape(maps)[-1])


def overlap(maps: np.ndarray) -> np.ndarray:
    """Σ min(a, b) of every pair of tokens: [..., tokens, positions] to [..., tokens, tokens]."""
    a = np.asarray(maps, np.float64)
    return np.minimum(a[..., :, None, :], a[..., None, :, :]).sum(-1)


def cosine(maps: np.ndarray) -> np.ndarray:
    """Cosine of every pair of tokens: [..., tokens, positions] to [..., tokens, tokens]."""
    a = np.asarray(maps, np.float64)
    a = a / np.linalg.norm(a, axis=-1, keepdims=True)
    return a @ np.swapaxes(a, -1, -2)


def pairs_mean(matrix: np.ndarray) -> np.ndarray:
    """Mean over the pairs of different tokens of [..., tokens, tokens]; NaN for one token."""
    count = matrix.shape[-1]
    if count < 2:
        return np.full(matrix.shape[:-2], np.nan)
    return matrix[..., *np.triu_indices(count, 1)].mean(-1)


def total_variation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Half of Σ |a − b|: [...], the share of the weight that lies elsewhere, 0..1."""
    return np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).sum(-1) / 2


def centre_of_mass(
    maps: np.ndarray, grid: tuple[int, int], image_size: tuple[int, int]
) -> np.ndarray:
    """Mean place of a map on the frame: [..., 2], (row, column) in pixels.

    Args:
      maps: [..., positions].
      grid: (rows, columns) of the feature grid.
      image_size: (height, width) of the frame, which the grid covers.
    """
    rows = (np.arange(grid[0]) + 0.5) * image_size[0] / grid[0]
    columns = (np.arange(grid[1]) + 0.5) * image_size[1] / grid[1]
    places = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
    return np.asarray(maps, np.float64) @ places


def disc(
    centre: np.ndarray, radius: float, grid: tuple[int, int], image_size: tuple[int, int]
) -> np.ndarray:
    """Share of each grid cell's area that lies within a disc on the frame: [positions].

    `maps @ disc(...)` is a map's weight within the radius, each cell's being spread evenly over it;
    `disc(...).mean()` is a uniform map's.

    Args:
      centre: (row, column) in pixels.
      radius: in pixels.
      grid: (rows, columns).
      image_size: (height, width).
    """
    fine = 16  # samples a cell and axis
    rows = (np.arange(grid[0] * fine) + 0.5) * image_size[0] / (grid[0] * fine)
    columns = (np.arange(grid[1] * fine) + 0.5) * image_size[1] / (grid[1] * fine)
    inside = np.hypot(rows[:, None] - centre[0], columns - centre[1]) <= radius
    return inside.reshape(grid[0], fine, grid[1], fine).mean((1, 3)).reshape(-1)


def through_maps(attention: np.ndarray, maps: np.ndarray | None) -> np.ndarray:
    """Attention on image tokens, put where these tokens look: [..., positions].

    Args:
      attention: [..., tokens], on the image tokens of one frame.
      maps: [tokens, positions] of that frame; None where the tokens are the positions themselves.

    Returns:
      Σ attention × map; sums to what the attention sums to.
    """
    attention = np.asarray(attention, np.float64)
    return attention if maps is None else attention @ np.asarray(maps, np.float64)


def upsample(weights: np.ndarray, grid: tuple[int, int], image_size: tuple[int, int]) -> np.ndarray:
    """A map [positions] drawn bilinearly over the frame: [height, width], weights per cell."""
    picture = Image.fromarray(np.asarray(weights, np.float32).reshape(grid))
    height, width = image_size
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def grid_of(positions: int, image_size: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of a grid of so many positions whose cells are the nearest to squares."""
    height, width = image_size
    fitting = [rows for rows in range(1, positions + 1) if positions % rows == 0]
    rows = min(fitting, key=lambda r: abs(np.log((height / r) / (width / (positions // r)))))
    return rows, positions // rows
