"""Puts a trained policy into the package, with a card: a policy that `load_policy` knows by name.

    python -m rt1_jax.evaluation.ship --checkpoint=RUN --results=RUN/evaluation/results.json \\
        --name=tabletop-small [--output=rt1_jax/pretrained]

The directory holds a native checkpoint without the training state; README.md, the card: what it was
trained on, and its success on every split that was evaluated; and metrics.jsonl, the errors on
held-out episodes while it was trained.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from rt1_jax.checkpoints import native
from rt1_jax.checkpoints.location import PRETRAINED
from rt1_jax.checkpoints.native import CheckpointError
from rt1_jax.evaluation.run import training_rows
from rt1_jax.evaluation.table import format_table

LARGEST_BYTES = 5_000_000
"""What ships is downloaded by everyone who installs the package."""


class ShippingError(ValueError):
    """What is to be shipped does not fit together, or is too large."""


def ship(
    checkpoint: str | os.PathLike[str],
    results: str | os.PathLike[str],
    name: str,
    output: str | os.PathLike[str] = PRETRAINED,
    command: str | None = None,
) -> pathlib.Path:
    """Writes `output/name`; replaces one that is there only when the new one is whole.

    Args:
      checkpoint: a native checkpoint or a run's directory (its newest).
      results: `results.json` of an evaluation of that checkpoint in closed loop.
      name: what `load_policy` will know it by: lower-case letters, digits and hyphens.
      output: where shipped policies are.
      command: what made it, for the card.

    Returns:
      the new directory.

    Raises:
      CheckpointError: there is no such checkpoint, or it is damaged.
      ShippingError: a bad name, results of another checkpoint or of no rollouts, or too many bytes.
    """
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ShippingError(f"name {name!r}: expected lower-case letters, digits and hyphens")
    source = native.find_checkpoint(checkpoint)
    description = native.read_description(source)
    measured = _read_results(pathlib.Path(results), description)
    final = pathlib.Path(output) / name
    temporary = final.with_name(f".{name}.partial-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        native.save_checkpoint(temporary, description, native.load_variables(source))
        # Orbax' note to itself, not needed for reading, names the folder where this was made.
        for note in temporary.rglob("commit_success.txt"):
            note.unlink()
        (temporary / "README.md").write_text(make_card(name, description, measured, command))
        (temporary / "metrics.jsonl").write_text(_validation_rows(source))
        size = sum(file.stat().st_size for file in temporary.rglob("*") if file.is_file())
        if size > LARGEST_BYTES:
            raise ShippingError(
                f"{source} takes {size:,} bytes, at most {LARGEST_BYTES:,} ship with the package"
            )
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final


def make_card(
    name: str,
    description: native.PolicyDescription,
    results: dict[str, Any],
    command: str | None = None,
) -> str:
    """The card, as Markdown: every number is read from the checkpoint or from the results."""
    source, checkpoint, machine = description.source, results["checkpoint"], results["machine"]
    data, rollouts = source["data"], results["closed_loop"]
    height, width = description.image_size
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    about = [
        f"made by `{command}`" if command else "",
        f"{description.architecture.upper()} for the `{rollouts['environment']}` benchmark: "
        f"{checkpoint['parameters']:,} parameters, {height}x{width} pixels, "
        f"{description.model['frames']} frames of history",
        f"language: `{description.encoder.name}`",
        f"data: {data['kept']:,} demonstrations ({data['steps']:,} steps) of "
        f"{', '.join(data['skills'])} on the split `{data['split']}`, by `{data['generator']}`, "
        f"seed {data['seed']}",
        f"training: config `{source['run']}`, {source['training_steps']:,} steps of "
        f"{source['batch_size']} windows, seed {source['seed']}",
        f"evaluation: {results['created'][:10]}, {rollouts['episodes_per_split']} episodes a "
        f"split, seeds from {rollouts['seed']}; {machine['cores']} cores, {machine['backend']}, "
        f"{versions}",
    ]
    facts = "\n".join(f"- {line}" for line in about if line)
    return f"""# {name}

{facts}

```
{format_table({**results, "offline": None})}
```

Success is judged from the physical state. Rates have 95% Wilson intervals; `wrong instruction` is
the same policy told another instruction in the same scenes, `expert` the script that made the data.
Other splits than that of the data show how far the policy generalises.
"""


def _read_results(path: pathlib.Path, description: native.PolicyDescription) -> dict[str, Any]:
    try:
        results = json.loads(path.read_text())
        step, rollouts = results["checkpoint"]["step"], results["closed_loop"]
        source = results["checkpoint"]["source"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ShippingError(f"{path}: expected the results.json of eval.py ({error})") from error
    if not rollouts:
        raise ShippingError(f"{path} has no rollouts: evaluate in closed loop (eval.py --env=...)")
    ours = json.loads(json.dumps(description.source))
    if step != description.step or source != ours:
        raise ShippingError(
            f"{path} is of another checkpoint: step {step} of {source.get('run')!r}, the "
            f"checkpoint is step {description.step} of {ours.get('run')!r}, or they were trained "
            "differently; evaluate this one"
        )
    return results


def _validation_rows(checkpoint: pathlib.Path) -> str:
    """The lines of the run's metrics that tell of held-out episodes, up to the checkpoint."""
    rows = training_rows(str(checkpoint))
    kept = [row for row in rows if row.get("split") == "validation"]
    return "".join(json.dumps(row) + "\n" for row in kept)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns 1 and prints one line where something is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m rt1_jax.evaluation.ship", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--checkpoint", required=True, help="a run's directory or a checkpoint")
    parser.add_argument("--results", required=True, help="results.json of its evaluation")
    parser.add_argument("--name", required=True)
    parser.add_argument("--output", default=str(PRETRAINED))
    parser.add_argument("--command", help="what made it, for the card")
    given = parser.parse_args(arguments)
    try:
        path = ship(given.checkpoint, given.results, given.name, given.output, given.command)
    except (CheckpointError, ShippingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
