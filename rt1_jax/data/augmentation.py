"""Image augmentation on the device, inside jit, keyed."""

from __future__ import annotations

import jax

from rt1_jax.preprocessing import random_shift_crop


def random_shift(key: jax.Array, images: jax.Array, max_shift: tuple[int, int]) -> jax.Array:
    """Shifts each window by a random whole number of pixels; zeros come in at the edges.

    RT-1 pads its 256x320 frames by 20 and 50 pixels and crops back to the old size (one offset for
    the batch in the original). Here every window draws its own, the same for all its frames, so
    that motion between frames is kept.

    Args:
      key: PRNG key.
      images: uint8 [batch, time, h, w, c].
      max_shift: (y, x), in pixels, uniform in -max..max; (0, 0) does nothing.

    Returns:
      uint8 [batch, time, h, w, c].
    """
    if max_shift == (0, 0):
        return images
    keys = jax.random.split(key, images.shape[0])
    return jax.vmap(lambda k, window: random_shift_crop(k, window, max_shift))(keys, images)
