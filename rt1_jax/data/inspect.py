"""Says what is in a dataset: sizes, actions, lengths, instructions, and what is odd about them.

    python -m rt1_jax.data.inspect data/mine [--output=out/inspect] [--episodes=0,17]

Text goes to the terminal. With --output, report.html, summary.json, the figures as PNG and SVG and
strips of frames go there. Numbers of all steps come from dataset.json; histograms are of --sample
steps drawn at random, so that a large dataset takes no more memory than a small one.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

from rt1_jax.data.shards import DatasetError
from rt1_jax.data.store import StepStore
from rt1_jax.data.summary import DEFAULT_SAMPLE, DEFAULT_TOP, summarise
from rt1_jax.data.summary_report import evenly_spread, write_summary
from rt1_jax.data.summary_text import format_summary

_FILMS = 6


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 2 for what is not there or does not fit."""
    given = _parse(arguments)
    try:
        for flag in ("sample", "top"):
            if getattr(given, flag) < 1:
                raise DatasetError(f"--{flag}={getattr(given, flag)}: expected at least 1")
        store = StepStore.open(given.dataset)
        if not len(store):
            raise DatasetError(f"{given.dataset} holds no episode")
        episodes = _episodes(given.episodes, len(store))
        summary = summarise(store, sample=given.sample, seed=given.seed, top=given.top)
        print(format_summary(summary))
        if given.output:
            write_summary(given.output, store, summary, episodes)
            print(f"\nreport: {pathlib.Path(given.output) / 'report.html'}")
    except (ValueError, OSError) as error:
        print(f"inspect: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m rt1_jax.data.inspect", description=__doc__.splitlines()[0]
    )
    parser.add_argument("dataset", help="its directory")
    parser.add_argument("--output", help="directory for the report; text alone without it")
    parser.add_argument("--episodes", help="whose frames to show, such as 0,17; else some")
    parser.add_argument(
        "--sample", type=int, default=DEFAULT_SAMPLE, help="steps read for histograms"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--top", type=int, default=DEFAULT_TOP, help="instructions listed")
    return parser.parse_args(arguments)


def _episodes(text: str | None, count: int) -> list[int]:
    if text is None:
        return evenly_spread(count, _FILMS)
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) < count for part in parts):
        raise DatasetError(
            f"--episodes={text}: expected numbers from 0 to {count - 1}, separated by commas"
        )
    return [int(part) for part in parts]


if __name__ == "__main__":
    sys.exit(main())
