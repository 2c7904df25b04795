"""Image augmentation on the device, inside jit, keyed."""

from __future__ import annotations

import jax
import jax.numpy as jnp


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
    y, x = max_shift
    if y == 0 and x == 0:
        return images
    batch, time, height, width, channels = images.shape
    padded = jnp.pad(images, ((0, 0), (0, 0), (y, y), (x, x), (0, 0)))
    offsets = jax.random.randint(
        key, (batch, 2), jnp.zeros(2, jnp.int32), jnp.array([2 * y + 1, 2 * x + 1])
    )

    def crop(window: jax.Array, offset: jax.Array) -> jax.Array:
        start = (0, offset[0], offset[1], 0)
        return jax.lax.dynamic_slice(window, start, (time, height, width, channels))

    return jax.vmap(crop)(padded, offsets)
