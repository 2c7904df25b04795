"""Evaluates a policy: in closed loop, against recorded actions, or both.

python eval.py --checkpoint=tabletop-small
python eval.py --checkpoint=runs/tabletop --env=tabletop --split=all --episodes=100 --output=out/
python eval.py --checkpoint=runs/tabletop --dataset=data/tabletop --held_out=100 --output=out/

Writes results.json and report.html to the output directory. Exit code 2: something asked for is
not there or does not fit.
"""

from __future__ import annotations

import sys

from absl import app, flags, logging

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "A run's directory, a checkpoint, or the name of a shipped policy."
)
_ENV = flags.DEFINE_string(
    "env", None, "Roll out in this environment; `tabletop` where no --dataset is given."
)
_SPLIT = flags.DEFINE_list("split", ["seen"], "The environment's splits, or `all`.")
_SKILLS = flags.DEFINE_list(
    "skills", [], "Skills, or `all`. Default: those of the checkpoint's training data."
)
_EPISODES = flags.DEFINE_integer(
    "episodes", None, "Per split (default 100); with --dataset, recorded ones (default all)."
)
_SEED = flags.DEFINE_integer("seed", None, "Of the first episode; the next ones count up from it.")
_CONTROLS = flags.DEFINE_list(
    "controls", ["expert", "wrong_instruction"], "Shown beside the policy; empty for none."
)
_PROCESSES = flags.DEFINE_integer("processes", 2, "Environment processes. Results do not depend.")
_FILMS = flags.DEFINE_integer("films", 2, "Successes and failures shown for each split.")
_DATASET = flags.DEFINE_string("dataset", None, "Compare with the recorded actions of a dataset.")
_HELD_OUT = flags.DEFINE_integer(
    "held_out",
    None,
    "With --dataset: only its last so many episodes, as data.validation_episodes holds them out. "
    "Default: all, trained on or not.",
)
_OUTPUT = flags.DEFINE_string("output", "out", "Directory for results.json and report.html.")
_COMPUTE = flags.DEFINE_enum(
    "compute", "float32", ["float32", "bfloat16"], "What the policy computes in: docs/speed.md."
)
flags.mark_flag_as_required("checkpoint")


def main(argv: list[str]) -> None:
    """Runs the evaluation that the flags ask for."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    logging.set_verbosity(logging.WARNING)  # Orbax tells of every step it takes
    # Here and not above: every environment process imports this file, and needs no JAX.
    from rt1_jax.evaluation import command

    sys.exit(
        command.main(
            checkpoint=str(_CHECKPOINT.value),
            environment=_ENV.value,
            splits=_SPLIT.value,
            skills=_SKILLS.value,
            episodes=_EPISODES.value,
            seed=_SEED.value,
            controls=_CONTROLS.value,
            processes=_PROCESSES.value,
            films=_FILMS.value,
            dataset=_DATASET.value,
            held_out=_HELD_OUT.value,
            output=_OUTPUT.value,
            compute=_COMPUTE.value,
        )
    )


if __name__ == "__main__":
    app.run(main)
