"""What every policy network asks of its inputs, so that a wrong shape is named at the door."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def check_history(model: str, images: jax.Array, embeddings: jax.Array) -> None:
    """Raises ValueError unless images are ``[b, t, h, w, 3]``, embeddings ``[b, (t,) e]``."""
    if images.ndim != 5 or embeddings.shape[:-1] not in (images.shape[:1], images.shape[:2]):
        raise ValueError(
            f"{model}: expected images [b, t, h, w, 3] with embeddings [b, t, e] or [b, e], got "
            f"images {images.shape} and embeddings {embeddings.shape}"
        )


def check_frames(model: str, images: jax.Array, embeddings: jax.Array, size: int) -> None:
    """Raises ValueError unless images are uint8 ``[n, h, w, 3]``, embeddings ``[m, size]``."""
    if images.dtype != jnp.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(
            f"{model}: expected uint8 images [n, h, w, 3], got {images.dtype} {images.shape}"
        )
    shape = embeddings.shape
    if len(shape) != 2 or shape[1] != size or shape[0] == 0 or images.shape[0] % shape[0]:
        raise ValueError(
            f"{model}: expected embeddings [m, {size}] with m a divisor of {images.shape[0]} "
            f"images, got {shape}"
        )
