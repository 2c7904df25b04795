"""Trains a policy.

python train.py --config=configs/tabletop.py --workdir=runs/tabletop [--config.batch_size=64 ...]

Run it again with the same --workdir to go on where it stopped.
"""

from __future__ import annotations

import sys

from absl import app, flags, logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file("config", help_string="A file of configs/.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Checkpoints, metrics and config go here.")
_COORDINATOR = flags.DEFINE_string("coordinator", "", "HOST:PORT of process 0, of several.")
_PROCESSES = flags.DEFINE_integer("processes", 0, "How many processes; found out if 0.")
_PROCESS = flags.DEFINE_integer("process", -1, "Which of them this is; found out if -1.")
flags.mark_flags_as_required(["config", "workdir"])


def main(argv: list[str]) -> None:
    """Trains with the config and workdir that the flags name."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    logging.set_verbosity(logging.WARNING)  # Orbax tells every step of a save
    from rt1_jax.training.command import train_or_exit
    from rt1_jax.training.preemption import RESTART_CODE

    summary = train_or_exit(
        _CONFIG.value,
        str(_WORKDIR.value),
        coordinator=_COORDINATOR.value,
        processes=_PROCESSES.value,
        process=_PROCESS.value,
    )
    if summary["preempted"]:
        print(f"told to go: saved in {_WORKDIR.value}; start it again")
        sys.exit(RESTART_CODE)
    print(
        f"trained {summary['steps']} steps in {summary['seconds']:.0f} s "
        f"({summary['frames_per_second']:.0f} frames/s): loss {summary['loss']:.3f}, "
        f"validation {summary['validation_loss']:.3f}; checkpoints in {_WORKDIR.value}"
    )


if __name__ == "__main__":
    app.run(main)
