"""Draws what a policy predicts along recorded episodes over what was recorded.

    python -m rt1_jax.evaluation.overlay --checkpoint=tabletop-small --dataset=data/tabletop \\
        --episode=3[,7,...] [--output=out/overlay]

The policy steps through the recorded frames as it would on the robot. Writes episode-N.png and
.svg, report.html and results.json to the output directory.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

import rt1_jax
from rt1_jax.actions import ActionSpec
from rt1_jax.evaluation.episodes import EvaluationError
from rt1_jax.files import write_atomically

FORMAT = "rt1_jax.overlay"
VERSION = 1


def overlay(
    policy: Any,
    name: str,
    dataset: str | os.PathLike[str],
    episodes: Sequence[int],
    output: str | os.PathLike[str],
) -> dict[str, Any]:
    """Steps a policy through recorded episodes and writes figures, page and numbers.

    Args:
      policy: from `rt1_jax.load_policy`.
      name: what it is called on the page.
      dataset: a dataset directory.
      episodes: numbers of the episodes, from 0.
      output: directory, made if missing.

    Returns:
      the content of `results.json`: format "rt1_jax.overlay", version 1, created (UTC, ISO 8601),
      checkpoint {name, step, decoding}, dataset, embeddings ("stored" or "embedded anew"),
      machine, definitions, notes, episodes [{episode, instruction, steps, tokens, fields}] as
      `rt1_jax.evaluation.playback.to_json` gives them.

    Raises:
      EvaluationError: the dataset has no such episode, or action specs do not fit.
      DatasetError: a dataset that is missing or damaged.
      EncoderMismatchError: its embeddings are of another encoder and the policy's is not here.
    """
    from rt1_jax.data.store import StepStore
    from rt1_jax.evaluation import overlay_charts, playback
    from rt1_jax.evaluation.offline import check_same_fields, embeddings_for
    from rt1_jax.evaluation.results import describe_machine
    from rt1_jax.figures import save_figure

    store = StepStore.open(dataset)
    check_same_fields(policy.action_spec, store.action_spec)
    for number in episodes:
        if not 0 <= number < len(store):
            raise EvaluationError(
                f"--episode={number}: {dataset} has {len(store)} episodes, 0 to {len(store) - 1}"
            )
    embeddings, origin = embeddings_for(policy, store.select(np.asarray(episodes, np.int64)))
    root = pathlib.Path(output)
    rate = float(store.description["frame_rate"])
    shown = []
    for number, embedding in zip(episodes, embeddings, strict=True):
        episode = store.read(number)
        played = playback.play(policy, episode, embedding)
        title = f"{name}, episode {number}: {episode.instruction}"
        figure = overlay_charts.draw(played, episode.images, policy.action_spec, title, rate)
        save_figure(figure, root / f"episode-{number}")
        numbers = playback.to_json(played, policy.action_spec)
        shown.append({"episode": number, "instruction": episode.instruction, **numbers})
    description = policy.description
    results = {
        "format": FORMAT,
        "version": VERSION,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "checkpoint": {
            "name": name, "step": description.step, "decoding": policy.config.decoding
        },
        "dataset": os.fspath(dataset),
        "embeddings": origin,
        "machine": describe_machine(),
        "definitions": playback.DEFINITIONS,
        "notes": _notes(policy, store.action_spec, origin),
        "episodes": shown,
    }  # fmt: skip
    _write_page(root, results)
    text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(root / "results.json", text + "\n")
    return results


def _notes(policy: Any, recorded: ActionSpec, embeddings: str) -> list[str]:
    """What the reader must know of this policy and dataset."""
    spec: ActionSpec = policy.action_spec
    notes = []
    if policy.config.decoding == "continuous":
        notes.append(
            "The policy regresses its actions: there is no distribution over tokens, hence no band "
            "and no probability of the recorded token; its tokens are those of the actions it "
            "gives. Terminating is a choice of its own and has a probability."
        )
    if policy.config.decoding == "autoregressive":
        notes.append(
            "The policy decodes one token after another: each token's distribution is given the "
            "tokens that it had chosen before in the same step, not the recorded ones."
        )
    for mine in spec.fields:
        theirs = recorded.field(mine.name)
        if (mine.low, mine.high) != (theirs.low, theirs.high):
            notes.append(
                f"{mine.name}: the checkpoint's bounds are {mine.low} to {mine.high}, the "
                f"dataset's {theirs.low} to {theirs.high}; the checkpoint's are drawn and make the "
                "recorded tokens."
            )
    if embeddings != "stored":
        notes.append("The dataset's embeddings are of another encoder: embedded anew.")
    return notes


def _write_page(root: pathlib.Path, results: dict[str, Any]) -> None:
    from rt1_jax.figures import svg_element

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rt1_jax.evaluation", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    numbers = [shown["episode"] for shown in results["episodes"]]
    page = environment.get_template("overlay.html").render(
        results=results,
        figures=[Markup(svg_element(root / f"episode-{number}.svg")) for number in numbers],
        rows=[_rows(shown) for shown in results["episodes"]],
    )
    write_atomically(root / "report.html", page)


def _rows(shown: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Name, error, unit, accuracy and mean probability of each of an episode's tokens."""
    errors = []
    for field in shown["fields"].values():
        unit = field["unit"] if len(field["unit"]) < 8 else ""
        if field["kind"] == "one_hot":
            errors.append(("–", ""))
        else:
            errors += [(f"{error:.4g}", unit) for error in field["mean_absolute_error"]]
    rows = []
    for (name, token), (error, unit) in zip(shown["tokens"].items(), errors, strict=True):
        probability = token["recorded_probability"]
        mean = "–" if probability is None else f"{np.mean(probability):.3f}"
        rows.append((name, error, unit, f"{token['token_accuracy']:.0%}", mean))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 2 for what is not there or does not fit."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m rt1_jax.evaluation.overlay", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--checkpoint", required=True, help="a run, a checkpoint, or the name of a shipped policy"
    )
    parser.add_argument("--dataset", required=True, help="directory of recorded episodes")
    parser.add_argument("--episode", default="0", help="numbers from 0, such as 3,7")
    parser.add_argument("--output", default="out/overlay", help="directory")
    given = parser.parse_args(arguments)
    try:
        parts = [part.strip() for part in given.episode.split(",")]
        if not all(part.isdigit() for part in parts):
            raise EvaluationError(
                f"--episode={given.episode}: expected numbers from 0, separated by commas"
            )
        policy = rt1_jax.load_policy(given.checkpoint)
        episodes = [*dict.fromkeys(int(part) for part in parts)]
        results = overlay(policy, given.checkpoint, given.dataset, episodes, given.output)
    except (ValueError, OSError) as error:
        print(f"overlay: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    for shown in results["episodes"]:
        right = np.mean([token["token_accuracy"] for token in shown["tokens"].values()])
        print(
            f"episode {shown['episode']}, {shown['steps']} steps, {right:.0%} of tokens right: "
            f"{shown['instruction']}"
        )
    print("\n".join([*results["notes"], f"report: {pathlib.Path(given.output) / 'report.html'}"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
