"""``python -m rt1_jax.policies.export --checkpoint=PATH --output=DIR [--format=...]``."""

from __future__ import annotations

import argparse
import sys
import time

from rt1_jax.checkpoints.native import CheckpointError
from rt1_jax.policies.export.export import FORMATS, export_policy
from rt1_jax.policies.export.functions import ExportError
from rt1_jax.policies.load import load_policy


def main(arguments: list[str] | None = None) -> int:
    """The command; returns 1 and prints one line where something is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m rt1_jax.policies.export",
        description="Writes a policy for programs without this package; see docs/export.md.",
    )
    parser.add_argument("--checkpoint", required=True, help="whatever load_policy takes")
    parser.add_argument("--output", required=True, help="a folder to make; one inside per format")
    parser.add_argument("--format", default="stablehlo,saved_model", help=f"of {','.join(FORMATS)}")
    parser.add_argument("--platforms", default="cpu,cuda,tpu", help="of cpu,cuda,rocm,tpu")
    parser.add_argument("--image_size", help="H,W of the camera's frames; as trained by default")
    flags = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        export_policy(
            load_policy(flags.checkpoint),
            flags.output,
            formats=_split(flags.format),
            platforms=_split(flags.platforms),
            image_size=_image_size(flags.image_size),
        )
    except (ExportError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {flags.output} ({flags.format}) in {time.monotonic() - started:.0f} s")
    return 0


def _split(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(",") if name.strip())


def _image_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 2 or not all(part.strip().isdigit() for part in parts):
        raise ExportError(f"--image_size={text}: expected height and width, such as 256,320")
    return int(parts[0]), int(parts[1])


if __name__ == "__main__":
    sys.exit(main())
