"""Depthwise convolution with one meaning and several lowerings.

XLA's grouped convolution is the right thing on GPU and TPU. On CPU it takes 13-64 ms a layer of
EfficientNet where multiplying k*k shifted views takes 0.3-4 ms for the same numbers; the gradient
is written the same way. ``benchmarks/depthwise.py`` measures both in one run.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from rt1_jax.platforms import platform

Padding = Literal["keras", "same", "symmetric"]
Pads = tuple[tuple[int, int], tuple[int, int]]
Lowering = Literal["auto", "grouped", "shifted"]

# What "auto" means in the code that is being traced; see `automatic_lowering`.
_automatic = contextvars.ContextVar[str]("automatic_lowering", default="by_backend")


def convolution_pads(size: Sequence[int], kernel: int, stride: int, padding: Padding) -> Pads:
    """(before, after) padding in rows and columns.

    ``"same"`` is the usual rule. ``"keras"`` differs for strided convolutions, which pad by
    (k//2 - 1, k//2) whatever the size: what Keras' EfficientNet does with an unknown image size.
    ``"symmetric"`` pads by k//2 everywhere, as PyTorch does.
    """
    if padding == "keras" and stride > 1:
        return ((kernel // 2 - 1, kernel // 2),) * 2
    if padding == "symmetric":
        return ((kernel // 2, kernel // 2),) * 2
    rows, columns = (
        max((-(-length // stride) - 1) * stride + kernel - length, 0) for length in size
    )
    return (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)


def resolve_lowering(lowering: Lowering) -> str:
    """``"auto"`` is ``"shifted"`` on CPU and ``"grouped"`` elsewhere."""
    if lowering != "auto":
        return lowering
    if _automatic.get() in ("grouped", "shifted"):
        return _automatic.get()
    return "shifted" if platform() == "cpu" else "grouped"


@contextlib.contextmanager
def automatic_lowering(choice: Literal["by_platform", "grouped", "shifted"]) -> Iterator[None]:
    """What ``"auto"`` means in what is traced within this, for programs that run elsewhere.

    With ``"by_platform"`` a program holds both and takes that of the platform it is lowered for.
    Not the rule: both are traced then, and gradients would keep the residuals of both.
    """
    token = _automatic.set(choice)
    try:
        yield
    finally:
        _automatic.reset(token)


def choose_lowering(
    lowering: Lowering,
    shifted: Callable[..., jax.Array],
    grouped: Callable[..., jax.Array],
    *operands: jax.Array,
) -> jax.Array:
    """The result of that one of two functions which the lowering asks for."""
    if lowering == "auto" and _automatic.get() == "by_platform":
        return lax.platform_dependent(*operands, cpu=shifted, default=grouped)
    return (shifted if resolve_lowering(lowering) == "shifted" else grouped)(*operands)


def depthwise_convolution(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: int,
    pads: Pads,
    lowering: Lowering = "auto",
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

    def grouped(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            x,
            kernel[:, :, None, :],
            (stride, stride),
            pads,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=x.shape[-1],
        )

    # custom_vjp tells its static arguments by their position.
    shifted = lambda x, kernel: _shifted(x, kernel, stride, pads)
    return choose_lowering(lowering, shifted, grouped, x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _shifted(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    # The barrier: what made x is computed in one pass with the padding, not in two before it.
    padded = lax.optimization_barrier(jnp.pad(x, ((0, 0), *pads, (0, 0))))
    (_, _, view), *views = shifted_views(padded, kernel.shape[0], stride)
    total = view * kernel[0, 0]
    for i, j, view in views:
        total = total + view * kernel[i, j]
    return total


def _shifted_forward(
    x: jax.Array, kernel: jax.Array, stride: int, pads: Pads
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _shifted(x, kernel, stride, pads), (x, kernel)


def _shifted_backward(
    stride: int, pads: Pads, residuals: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    return _input_gradient(x, kernel, stride, pads, dy), _kernel_gradient(
        x, kernel, stride, pads, dy
    )


_shifted.defvjp(_shifted_forward, _shifted_backward)


def shifted_views(
    padded: jax.Array, kernel: int, stride: int
) -> Iterator[tuple[int, int, jax.Array]]:
    """For each kernel position, what it sees of the padded input: ``[n, h', w', c]``."""
    _, height, width, _ = padded.shape
    rows, columns = (height - kernel) // stride + 1, (width - kernel) // stride + 1
    phases = _phases(padded, stride)
    for i in range(kernel):
        for j in range(kernel):
            top, left = i // stride, j // stride
            phase = phases[i % stride][j % stride]
            yield i, j, phase[:, top : top + rows, left : left + columns]


def _phases(padded: jax.Array, stride: int) -> list[list[jax.Array]]:
    """Every s-th row and column from each start: ``phases[a][b]`` is ``padded[:, a::s, b::s]``.

    Taken apart once, so that the k * k views are dense slices: a strided slice inside a fused loop
    is not vectorised.
    """
    if stride == 1:
        return [[padded]]
    n, height, width, channels = padded.shape
    rows, columns = -(-height // stride), -(-width // stride)
    whole = jnp.pad(
        padded, ((0, 0), (0, rows * stride - height), (0, columns * stride - width), (0, 0))
    )
    split = whole.reshape(n, rows, stride, columns, stride, channels)
    # The barrier keeps XLA from fusing the strided reads back into every view.
    split = lax.optimization_barrier(split.transpose(2, 4, 0, 1, 3, 5))
    return [[split[a, b] for b in range(stride)] for a in range(stride)]


def _kernel_gradient(
    x: jax.Array, kernel: jax.Array, stride: int, pads: Pads, dy: jax.Array
) -> jax.Array:
    """Sums ``view * dy`` over images, rows and columns, for each of the k * k views."""
    # One reduction with k * k results reads x and dy once; as k * k reductions it takes ten times
    # as long. Keeping the batch axis lets XLA share the work among cores.
    padded = lax.optimization_barrier(jnp.pad(x, ((0, 0), *pads, (0, 0))))
    views = shifted_views(padded, kernel.shape[0], stride)
    products = tuple(view.astype(jnp.float32) * dy for _, _, view in views)
    zeros = (jnp.float32(0),) * len(products)
    sums = lax.reduce(products, zeros, _add_all, (1, 2))  # k * k times [n, c]
    return jnp.stack(sums).sum(axis=1).reshape(kernel.shape).astype(kernel.dtype)


def _add_all(left: tuple[jax.Array, ...], right: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    return tuple(a + b for a, b in zip(left, right, strict=True))


def _input_gradient(
    x: jax.Array, kernel: jax.Array, stride: int, pads: Pads, dy: jax.Array
) -> jax.Array:
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
