"""Converts checkpoints: ``python -m rt1_jax.checkpoints.convert SRC DST [--to FORMAT]``.

Any supported format becomes a native checkpoint; a native one (or any other) becomes a checkpoint
of the TensorFlow original, in the original's names, where the original can hold the model.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Literal

from rt1_jax.checkpoints import formats, native, tf_writer
from rt1_jax.checkpoints.adam import AdamMoments
from rt1_jax.checkpoints.location import is_url
from rt1_jax.checkpoints.native import CheckpointError
from rt1_jax.models.config import ConfigError, RT1Config

Target = Literal["native", "tf_checkpoint", "tf_saved_model"]


def convert(
    source: str | os.PathLike[str], target: str | os.PathLike[str], to: Target = "native"
) -> None:
    """Reads ``source``, whatever its format, and writes ``target``.

    Args:
      source: any supported checkpoint, or the name of a shipped policy.
      target: a directory (``native``, ``tf_saved_model``) or a prefix such as ``out/ckpt-1000``
        (``tf_checkpoint``), which must not exist yet.
      to: the format to write. Adam's moments are kept between ``tf_checkpoint`` and ``native``
        (:func:`native.load_adam_moments`); a SavedModel has no place for them.

    Raises:
      CheckpointError: the source cannot be read, the model cannot be held, or the target exists.
    """
    if is_url(target):
        raise CheckpointError(f"{target}: expected a path on disk: write it here, then copy it")
    moments: AdamMoments | None = None
    if formats.detect_format(source) == "native":
        checkpoint = native.find_checkpoint(source)
        description = native.read_description(checkpoint)
        variables = native.load_variables(checkpoint)
        moments = native.load_adam_moments(checkpoint)
    else:
        loaded = formats.read(source)
        description, variables = loaded.description(), loaded.variables
        moments = loaded.optimizer_moments
    if to == "native":
        native.save_checkpoint(target, description, variables, moments=moments)
        return
    if description.architecture != "rt1":
        raise CheckpointError(
            f"{source} is of architecture {description.architecture!r}: only RT-1 has a TensorFlow "
            "original"
        )
    if description.embedding_statistics is not None:
        raise CheckpointError(
            f"{source} standardises its embeddings, which the TensorFlow original cannot do"
        )
    try:
        config = RT1Config.from_json(description.model)
    except ConfigError as error:
        raise CheckpointError(f"{source}: {error}") from error
    prefix = os.path.join(target, "variables", "variables") if to == "tf_saved_model" else target
    tf_writer.write_tf(
        prefix,
        config,
        variables,
        step=description.step,
        kind=to,
        moments=moments if to == "tf_checkpoint" else None,
    )


def main(arguments: list[str] | None = None) -> int:
    """The command; returns 1 and prints one line where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m rt1_jax.checkpoints.convert")
    parser.add_argument("source", help="a checkpoint of any format, or a shipped policy")
    parser.add_argument("target", help="where to write; must not exist")
    parser.add_argument(
        "--to", choices=("native", "tf_checkpoint", "tf_saved_model"), default="native"
    )
    flags = parser.parse_args(arguments)
    try:
        convert(flags.source, flags.target, flags.to)
    except CheckpointError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {flags.target} ({flags.to})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
