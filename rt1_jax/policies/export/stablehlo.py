"""The artefact for JAX: programs as StableHLO, the weights once beside them, a loader.

    config.json        inputs, state, actions, encoder, versions
    step.jax_export    one control step, serialised by jax.export
    logits.jax_export  whole windows
    weights.npz        an array a name; both programs take them as arguments
    policy.py          loads and steps all this with nothing but jax and numpy

Weights are arguments rather than constants: RT-1's are 140 MB, which each of the programs would
hold again, and so they can be read, compared and replaced without JAX. NumPy's own format needs no
further library, and its checksums tell which array is damaged.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import export

from rt1_jax.models import depthwise
from rt1_jax.policies.export import standalone
from rt1_jax.policies.export.functions import ExportError, PolicyFunctions
from rt1_jax.policies.export.manifest import manifest, tensors

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def export_stablehlo(
    functions: PolicyFunctions, directory: pathlib.Path, platforms: Sequence[str]
) -> None:
    """Writes the artefact into a directory that is there and empty.

    Args:
      functions: what to export.
      directory: see above.
      platforms: of ``PLATFORMS``; each program holds all of them.

    Raises:
      ExportError: an unknown platform.
    """
    check_platforms(platforms)
    (batch,) = export.symbolic_shape("b")
    programs = {
        "step": lower(functions.step, functions.step_arguments(batch), platforms),
        "logits": lower(functions.logits, functions.logits_arguments(batch), platforms),
    }
    content = manifest(functions, "stablehlo", ("jax", "jaxlib", "flax", "numpy"))
    content["programs"] = {}
    for name, program in programs.items():
        data = bytes(program.serialize())
        (directory / f"{name}.jax_export").write_bytes(data)
        content["programs"][name] = {
            "file": f"{name}.jax_export",
            "sha256": hashlib.sha256(data).hexdigest(),
            "platforms": list(platforms),
            "calling_convention_version": program.calling_convention_version,
        }
    arrays: dict[str, Any] = functions.weights
    np.savez(directory / "weights.npz", **arrays)
    content["weights"] = {"file": "weights.npz", "tensors": tensors(functions)}
    shutil.copyfile(standalone.__file__, directory / "policy.py")
    (directory / "config.json").write_text(json.dumps(content, indent=1))


def check_platforms(platforms: Sequence[str]) -> None:
    """Raises ExportError unless there is one, and all are known."""
    unknown = sorted(set(platforms) - set(PLATFORMS))
    if unknown or not platforms:
        wrong = f"unknown platform {unknown[0]!r}" if unknown else "no platform"
        raise ExportError(f"{wrong}: expected some of {','.join(PLATFORMS)}")


def lower(
    function: Callable[..., Any], arguments: tuple[Any, ...], platforms: Sequence[str]
) -> export.Exported:
    """The function as a program for all these platforms."""
    # A new function each time: what jit has traced before holds one platform's lowerings.
    jitted = jax.jit(lambda *arguments: function(*arguments))
    with depthwise.automatic_lowering("by_platform"):
        return export.export(jitted, platforms=tuple(platforms))(*arguments)
