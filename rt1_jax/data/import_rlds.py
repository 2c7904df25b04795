"""Imports an RLDS dataset (Open X-Embodiment, or your own TFDS directory) for training.

    python -m rt1_jax.data.import_rlds --dataset=fractal20220817_data \\
        --builder_dir=gs://gresearch/robotics/fractal20220817_data/0.1.0 --output=data/fractal

Interrupted, the same command goes on: finished shards are kept. Frames are not encoded again where
their size and format fit. With --registry=FILE.py, --dataset is one of your own.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from rt1_jax.data import oxe
from rt1_jax.data.resize import FITS
from rt1_jax.data.rlds.checks import SCALES
from rt1_jax.data.rlds.importer import import_rlds
from rt1_jax.data.rlds.report import ImportReport
from rt1_jax.data.shards import DatasetError
from rt1_jax.data.size_flag import read_size


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m rt1_jax.data.import_rlds", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--builder_dir", required=True, help="a version's directory, local or gs://")
    add("--dataset", required=True, help="a name of the registry")
    add("--output", required=True, help="directory of the dataset")
    add(
        "--registry",
        help="a Python file with descriptions of your own; changed, it needs another --output",
    )
    add("--split", default="train")
    add(
        "--actions",
        choices=SCALES,
        default="physical",
        help="the dataset's own units and bounds, or normalised as RT-1-X's mixture was",
    )
    add("--image_size", help="height,width in pixels; the data's own by default")
    add("--image_fit", choices=FITS, default="stretch", help="pad keeps the ratio of the sides")
    add("--image_format", choices=("jpeg", "png"), help="the data's own by default")
    add(
        "--encoder",
        help="sentence encoder; the data's stored embeddings by default. Of a finished import only "
        "the instructions are embedded anew",
    )
    add("--episodes", type=int, default=0, help="import only the first so many")
    add(
        "--link",
        action="store_true",
        help="leave the frames in the TFRecord files, which must be local and stay there",
    )
    add("--processes", type=int, default=os.cpu_count() or 1)
    add("--max_damaged", type=float, default=0.01, help="largest share of damaged episodes")
    add("--max_clipped", type=float, default=0.05, help="largest share of a field beyond bounds")
    given = parser.parse_args(arguments)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if given.processes < 1:
            raise DatasetError(f"--processes={given.processes}: expected at least 1")
        if given.registry:
            oxe.load_user_file(given.registry)
        encoder = None
        if given.encoder:
            from rt1_jax.language import load_encoder

            encoder = load_encoder(given.encoder)
        report = import_rlds(
            oxe.get(given.dataset),
            given.builder_dir,
            given.output,
            split=given.split,
            scale=given.actions,
            image_size=None if given.image_size is None else read_size(given.image_size),
            image_format=given.image_format,
            image_fit=given.image_fit,
            encoder=encoder,
            episodes=given.episodes,
            link=given.link,
            processes=given.processes,
            max_damaged=given.max_damaged,
            max_clipped=given.max_clipped,
        )
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # SIGTERM, too
        print("interrupted: run the same command again to continue", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    print(f"{given.output}:\n{describe(report)}")
    return 0


def describe(report: ImportReport) -> str:
    """The report as lines of text."""
    lines = [f"  {report.episodes} episodes, {report.steps} steps"]
    lines += [f"  left out: {count} x {reason}" for reason, count in report.left_out.items()]
    lines += [f"    {example}" for example in report.examples[:20]]
    if len(report.examples) > 20:
        lines.append(f"    ... and {len(report.examples) - 20} more")
    lines += [
        f"  {name}: {share:.2%} beyond the bounds, clipped when tokenised"
        for name, share in report.clipped.items()
        if share > 0
    ]
    if report.embedding_conflicts:
        lines.append(
            f"  {report.embedding_conflicts} times an instruction had another embedding than before"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
