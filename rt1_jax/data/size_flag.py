"""`--image_size` of the commands that make datasets."""

from __future__ import annotations

from rt1_jax.data.shards import DatasetError


def read_size(text: str) -> tuple[int, int]:
    """`256,320` -> (height, width) in pixels.

    Raises:
      DatasetError: not two positive whole numbers.
    """
    try:
        height, width = (int(side) for side in text.split(","))
    except ValueError:
        height = width = 0
    if min(height, width) < 1:
        raise DatasetError(
            f"--image_size={text}: expected height,width in pixels, as in --image_size=256,320"
        )
    return height, width
