"""What a TPU chip is published to hold and do, and the slices of them that a step is compiled for.

Memory, memory bandwidth, bfloat16 rate and interconnect are those of Google's pages of Cloud TPU
(docs.cloud.google.com/tpu/docs/v4, /v5e, /v5p and /v6e, read in November 2026):

  v4    32 GiB   1200 GB/s   275 TFLOP/s   all-reduce 1.1 PB/s over a pod of 4096 chips
  v5e   16 GiB    819 GB/s   197 TFLOP/s   interconnect 400 GB/s a chip, both directions together
  v5p   95 GiB   2765 GB/s   459 TFLOP/s   1200 GB/s likewise
  v6e   32 GiB   1638 GB/s   918 TFLOP/s   800 GB/s likewise

A collective's bytes leave a chip in one direction while others come in, hence half of the number
for both directions; v5e's page says the same of a pod (51.2 TB/s of all-reduce over 256 chips, 200
GB/s a chip). v4's page has no number a chip: its pod's, over 4096 chips, stands for it. A slice
that is no full torus has fewer links than that.

What a program can have of the memory differs from the round number: `usable_bytes` is what libtpu
0.0.52 names as available when a program is too large for the chip.
"""

from __future__ import annotations

import dataclasses

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """Published rates of one chip.

    Attributes:
      name: as in a topology's name.
      memory_bytes: its HBM, as published.
      usable_bytes: what a program can have of it.
      memory_rate: bytes/s between HBM and core.
      flop_rate: bfloat16 FLOP/s. Products of float32 matrices are made of bfloat16 ones by default
        on a TPU, so it holds for those too.
      link_rate: bytes/s that leave the chip over all its links.
      slices: shapes that can be rented and compiled for, smallest first.
    """

    name: str
    memory_bytes: int
    usable_bytes: int
    memory_rate: float
    flop_rate: float
    link_rate: float
    slices: tuple[str, ...]


_FLAT = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBIC = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8")

CHIPS: dict[str, Chip] = {
    chip.name: chip
    for chip in (
        Chip("v4", 32 * GIB, int(30.75 * GIB), 1.2e12, 275e12, 1.1e15 / 4096, _CUBIC),
        Chip("v5e", 16 * GIB, int(15.75 * GIB), 819e9, 197e12, 400e9 / 2, _FLAT),
        Chip("v5p", 95 * GIB, int(95.73 * GIB), 2.765e12, 459e12, 1200e9 / 2, _CUBIC),
        Chip("v6e", 32 * GIB, int(31.24 * GIB), 1.638e12, 918e12, 800e9 / 2, _FLAT),
    )
}
"""Chips by the name that topologies have."""


@dataclasses.dataclass(frozen=True)
class StepSeconds:
    """How long a step takes at least, by what is waited for.

    Attributes:
      memory, compute, interconnect: seconds if there were nothing else to do.
    """

    memory: float
    compute: float
    interconnect: float

    @property
    def bound(self) -> str:
        """Which of the three takes longest."""
        times = dataclasses.asdict(self)
        return max(times, key=lambda name: times[name])

    @property
    def longest(self) -> float:
        """Seconds of a step in which the other two are hidden behind the longest."""
        return max(self.memory, self.compute, self.interconnect)


def step_seconds(chip: Chip, traffic: float, flops: float, wire: float) -> StepSeconds:
    """From what one chip does in a step.

    Args:
      chip: whose rates.
      traffic: bytes between memory and core.
      flops: floating-point operations.
      wire: bytes that leave the chip.
    """
    return StepSeconds(traffic / chip.memory_rate, flops / chip.flop_rate, wire / chip.link_rate)
