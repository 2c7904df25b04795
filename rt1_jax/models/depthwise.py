"""Depthwise convolution with one meaning and several lowerings.

XLA's grouped convolution is the right thing on GPU and TPU. On CPU it takes 13-64 ms a layer of
EfficientNet where multiplying k*k shifted views takes 0.3-4 ms for the same numbers; the gradient
is written the same way. ``benchmarks/depthwise.py`` measures both in one run.
"""

from __future__ import annotations

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

Pads = tuple[tuple[int, int], tuple[int, int]]


def convolution_pads(
    size: tuple[int, int], kernel: int, stride: int, padding: Literal["keras", "same"]
) -> Pads:
    """(before, after) padding in rows and columns.

    ``"same"`` is the usual rule. ``"keras"`` differs for strided convolutions, which pad by
    (k//2 - 1, k//2) whatever the size: what Keras' EfficientNet does with an unknown image size.
    """
    if padding == "keras" and stride > 1:
        return ((kernel // 2 - 1, kernel // 2),) * 2
    rows, columns = (
        max((-(-length // stride) - 1) * stride + kernel - length, 0) for length in size
    )
    return (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)


def resolve_lowering(lowering: Literal["auto", "grouped", "shifted"]) -> str:
    """``"auto"`` is ``"shifted"`` on CPU and ``"grouped"`` elsewhere."""
    if lowering != "auto":
        return lowering
    return "shifted" if jax.default_backend() == "cpu" else "grouped"


def depthwise_convolution(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: int,
    pads: Pads,
    lowering: Literal["auto", "grouped", "shifted"] = "auto",
) -> jax.Array:
    """Convolves every channel with its own kernel.

    Args:
      x: ``[n, h, w, c]``.
      kernel: ``[k, k, c]``.
      stride: in rows and columns.
      pads: (before, after) zeros in rows and columns.
      lowering: ``"grouped"`` (XLA's grouped convolution), ``"shifted"`` or ``"auto"``.

    Returns:
      ``[n, h', w', c]``.
    """
    if resolve_lowering(lowering) == "shifted":
        return _shifted(x, kernel, stride, pads)
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None, :],
        (stride, stride),
        pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _shifted(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    total = None
    for i, j, view in shifted_views(padded, kernel.shape[0], stride):
        term = view * kernel[i, j]
        total = term if total is None else total + term
    return total


def _shifted_forward(x, kernel, stride, pads):
    return _shifted(x, kernel, stride, pads), (x, kernel)


def _shifted_backward(stride, pads, residuals, dy):
    x, kernel = residuals
    return _input_gradient(x, kernel, stride, pads, dy), _kernel_gradient(
        x, kernel, stride, pads, dy
    )


_shifted.defvjp(_shifted_forward, _shifted_backward)


def shifted_views(padded: jax.Array, kernel: int, stride: int):
    """For each kernel position, what it sees of the padded input: ``[n, h', w', c]``."""
    n, height, width, channels = padded.shape
    rows, columns = (height - kernel) // stride + 1, (width - kernel) // stride + 1
    for i in range(kernel):
        for j in range(kernel):
            end = (n, i + (rows - 1) * stride + 1, j + (columns - 1) * stride + 1, channels)
            yield i, j, lax.slice(padded, (0, i, j, 0), end, (1, stride, stride, 1))


def _kernel_gradient(x, kernel, stride, pads, dy):
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    size = kernel.shape[0]
    sums = [
        jnp.sum(view * dy, axis=(0, 1, 2), dtype=jnp.float32)
        for _, _, view in shifted_views(padded, size, stride)
    ]
    return jnp.stack(sums).reshape(kernel.shape).astype(kernel.dtype)


def _input_gradient(x, kernel, stride, pads, dy):
    """Row ``stride * p + i - before`` of x meets row p of dy through kernel row i.

    Rows of x of one phase (position modulo the stride) meet only kernel rows of that phase, so
    each phase is a dense sum of shifted dy; no zeros are multiplied.
    """
    size = kernel.shape[0]
    (top, _), (left, _) = pads
    n, height, width, channels = x.shape
    # Phase counts in the padded frame: row r of the padded input has phase r % stride.
    counts = [-(-(before + length) // stride) for before, length in ((top, height), (left, width))]
    reach = (size - 1) // stride
    ahead = [max(count - have, 0) for count, have in zip(counts, dy.shape[1:3], strict=True)]
    grid = jnp.pad(dy, ((0, 0), (reach, ahead[0]), (reach, ahead[1]), (0, 0)))
    phases = []
    for a in range(stride):
        for b in range(stride):
            total = jnp.zeros((n, *counts, channels), dy.dtype)
            for i in range(a, size, stride):
                for j in range(b, size, stride):
                    p, q = reach - i // stride, reach - j // stride
                    total += grid[:, p : p + counts[0], q : q + counts[1]] * kernel[i, j]
            phases.append(total)
    if stride == 1:
        full = phases[0]
    else:
        full = jnp.stack(phases).reshape(stride, stride, n, *counts, channels)
        full = full.transpose(2, 3, 0, 4, 1, 5)  # [n, rows, phase, columns, phase, c]
        full = full.reshape(n, counts[0] * stride, counts[1] * stride, channels)
    return full[:, top : top + height, left : left + width].astype(x.dtype)
