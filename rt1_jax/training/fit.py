"""Whether a config's training step fits a TPU slice, and what it does there, without a TPU.

python -m rt1_jax.training.fit --config=configs/rt1.py --topology=v5e:4x4 --per_device_batch=8

The real step is compiled by libtpu (`pip install 'rt1_jax[fit]'`) and nothing is run, so the data
need not be there. `--topology=cpu:8` compiles for virtual CPU devices instead. `--compare=CONFIG`
compiles a second config too (overrides: `--compare.step.remat=...`), `--largest` looks for the
largest batch by compiling up to four times more, `--json=FILE` writes the numbers. Ends with status
1 if the step does not fit.

Memory and traffic are those that XLA reports of the compiled program; times and windows/s are these
over the chip's published rates, hence a bound that a real chip stays below.
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from rt1_jax.training.libtpu_environment import set_libtpu_environment

_CONFIG = config_flags.DEFINE_config_file("config", help_string="A file of configs/.")
_COMPARE = config_flags.DEFINE_config_file("compare", help_string="Another, side by side.")
_TOPOLOGY = flags.DEFINE_string("topology", None, "v5e:4x4, v4:2x2x2, ... or cpu:8.")
_BATCH = flags.DEFINE_integer("per_device_batch", 0, "Windows a chip; 0 is config.batch_size.")
_IMAGE_SIZE = flags.DEFINE_string("image_size", "256,320", "The frames' height,width.")
_JSON = flags.DEFINE_string("json", None, "The numbers go here.")
_LARGEST = flags.DEFINE_bool("largest", False, "Find the largest batch; compiles up to 4 times.")


def check(
    config: Any,
    topology: str,
    *,
    per_device_batch: int = 0,
    image_size: tuple[int, int] = (256, 320),
    largest: bool = False,
    name: str = "",
) -> dict[str, Any]:
    """The command's numbers for one config.

    Args:
      config: as in `configs/`.
      topology: see `rt1_jax.training.topology.make_topology`.
      per_device_batch: windows a device; 0 is the config's batch_size over all devices.
      image_size: (height, width) of the frames.
      largest: compile smaller and larger batches to find the largest.
      name: what the report calls it; the config's name if empty.

    Returns:
      See `rt1_jax.training.fit_measure.measure`, and "largest".

    Raises:
      TopologyError, FitError: see there.
    """
    from rt1_jax.training.fit_largest import find_largest, guess_largest
    from rt1_jax.training.fit_measure import measure
    from rt1_jax.training.topology import make_topology

    devices = make_topology(topology)

    def measured(batch: int) -> dict[str, Any]:
        return measure(config, devices, image_size=image_size, per_device_batch=batch, name=name)

    report = measured(per_device_batch)
    report["largest"] = find_largest(report, measured) if largest else guess_largest(report)
    return report


def parse_image_size(text: str) -> tuple[int, int]:
    """ "256,320" -> (256, 320)."""
    if not re.fullmatch(r"[1-9]\d*,[1-9]\d*", text):
        raise ValueError(f"--image_size is {text!r}, expected height,width as in 256,320")
    height, width = text.split(",")
    return int(height), int(width)


def main(argv: list[str]) -> None:
    """Prints the report of what the flags name."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    logging.set_verbosity(logging.WARNING)
    from rt1_jax.files import write_atomically
    from rt1_jax.training.fit_report import format_comparison, format_report

    configs = [c for c in (_CONFIG.value, _COMPARE.value) if c is not None]
    names = [c.name for c in configs]
    if len(set(names)) < len(names):
        names = [f"{names[0]} (config)", f"{names[1]} (compare)"]
    try:
        reports = [
            check(
                config,
                str(_TOPOLOGY.value),
                per_device_batch=_BATCH.value,
                image_size=parse_image_size(_IMAGE_SIZE.value),
                largest=_LARGEST.value,
                name=name,
            )
            for config, name in zip(configs, names, strict=True)
        ]
    except ValueError as error:
        sys.exit(f"rt1_jax.training.fit: {error}")
    print(format_comparison(*reports) if len(reports) > 1 else format_report(reports[0]))
    if _JSON.value:
        written = reports[0] | ({"compare": reports[1]} if len(reports) > 1 else {})
        write_atomically(_JSON.value, json.dumps(written, indent=1) + "\n")
    if not all(report["fits"] for report in reports):
        sys.exit(1)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "topology"])
    os.environ["JAX_PLATFORMS"] = "cpu"  # compiled for elsewhere: accelerators here are left alone
    set_libtpu_environment()
    app.run(main)
