"""`export_policy`: a policy -> a directory with a folder for each format."""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Sequence

from rt1_jax.policies.export.functions import ExportError, PolicyFunctions
from rt1_jax.policies.export.stablehlo import check_platforms, export_stablehlo
from rt1_jax.policies.streaming import Policy

FORMATS = ("stablehlo", "saved_model", "onnx")


def export_policy(
    policy: Policy,
    output: str | os.PathLike[str],
    *,
    formats: Sequence[str] = ("stablehlo", "saved_model"),
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
    image_size: tuple[int, int] | None = None,
) -> None:
    """Writes a policy for programs without this package.

    Args:
      policy: of any architecture and decoding.
      output: a directory that is not there yet, or empty; it appears when it is whole. Each format
        gets a folder of its name in it, which needs nothing from the others.
      formats: some of ``FORMATS``.
      platforms: of "cpu", "cuda", "rocm" and "tpu"; the same programs run on all of them.
      image_size: (height, width) of the frames that it will be given; as it was trained if None.

    Raises:
      ExportError: see its message.
    """
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown or not formats:
        wrong = f"unknown format {unknown[0]!r}" if unknown else "no format"
        raise ExportError(f"{wrong}: expected some of {','.join(FORMATS)}")
    check_platforms(platforms)
    final = pathlib.Path(output).absolute()
    if final.exists() and not (final.is_dir() and not any(final.iterdir())):
        raise ExportError(f"{final} exists and is not empty: remove it or choose another name")
    if "onnx" in formats:
        from rt1_jax.policies.export import onnx_model

        onnx_model.import_converter()  # before minutes of work
    functions = PolicyFunctions(policy, image_size)
    partial = final.with_name(f".{final.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        for name in dict.fromkeys(formats):
            folder = partial / name
            folder.mkdir()
            if name == "stablehlo":
                export_stablehlo(functions, folder, platforms)
            elif name == "saved_model":
                # Here, since this alone needs TensorFlow.
                from rt1_jax.policies.export.saved_model import export_saved_model

                export_saved_model(functions, folder, platforms)
            else:
                onnx_model.export_onnx(functions, folder)
        os.replace(partial, final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
