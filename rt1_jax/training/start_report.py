"""What a fine-tuning took from its checkpoint, tensor by tensor, and as a table."""

from __future__ import annotations

import dataclasses
from typing import Literal

State = Literal["reused", "adapted", "fresh"]
_STATES: tuple[State, ...] = ("reused", "adapted", "fresh")


@dataclasses.dataclass(frozen=True)
class TensorReport:
    """One tensor of the new model.

    Attributes:
      path: such as "params/transformer/output_tokens/kernel".
      size: how many numbers it has.
      state: "reused" as it is in the checkpoint; "adapted" from it; "fresh", newly initialised.
      why: of what is not reused.
    """

    path: str
    size: int
    state: State
    why: str = ""

    @property
    def module(self) -> str:
        """The path without collection and own name."""
        return "/".join(self.path.split("/")[1:-1])


@dataclasses.dataclass(frozen=True)
class StartReport:
    """All tensors of the new model, and what else is to be known.

    Attributes:
      source: the checkpoint, with its format and step.
      tensors: in the order of their paths.
      unused: paths of the checkpoint's tensors that the new model does not have.
      notes: sentences about what fits by shape, but is not the same.
    """

    source: str
    tensors: tuple[TensorReport, ...]
    unused: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def everything_reused(self) -> bool:
        """Whether every tensor is the checkpoint's."""
        return all(tensor.state == "reused" for tensor in self.tensors)

    def of(self, state: State) -> list[str]:
        """Paths of the tensors that are in that state."""
        return [tensor.path for tensor in self.tensors if tensor.state == state]

    def counts(self) -> dict[str, dict[State, int]]:
        """{top-level part: {state: numbers}}, and the sums under "all"."""
        found: dict[str, dict[State, int]] = {}
        for tensor in self.tensors:
            for part in (tensor.path.split("/")[1], "all"):
                row = found.setdefault(part, dict.fromkeys(_STATES, 0))
                row[tensor.state] += tensor.size
        found["all"] = found.pop("all")
        return found

    def table(self) -> str:
        """For the terminal: numbers by part, then every module that is not wholly reused."""
        counts = self.counts()
        width = max(len(part) for part in counts)
        lines = [f"start from {self.source}", " " * (width + 2) + _row(_STATES)]
        for part, row in counts.items():
            lines.append(f"  {part:<{width}}" + _row([_short(row[state]) for state in _STATES]))
        changed: dict[tuple[State, str], list[TensorReport]] = {}
        for tensor in self.tensors:
            if tensor.state != "reused":
                changed.setdefault((tensor.state, _family(tensor.module)), []).append(tensor)
        for (state, module), tensors in changed.items():
            why = max(tensors, key=lambda tensor: tensor.size).why
            total = _short(sum(tensor.size for tensor in tensors))
            lines.append(f"  {state}: {module} ({total}): {why}")
        if self.unused:
            modules = sorted({"/".join(path.split("/")[1:-1]) for path in self.unused})
            shown = ", ".join(modules[:4]) + (", ..." if len(modules) > 4 else "")
            lines.append(f"  not used: {len(self.unused)} tensors of the checkpoint ({shown})")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


def _row(cells: tuple[State, ...] | list[str]) -> str:
    return "".join(f"{cell:>10}" for cell in cells)


def _short(count: int) -> str:
    """10,700,000 -> "10.7 M"."""
    if count >= 1_000_000:
        return f"{count / 1e6:.1f} M"
    return f"{count / 1e3:.1f} k" if count >= 10_000 else f"{count:,}"


def _family(module: str) -> str:
    """Layers and blocks of one kind are told of together: film_07 is film_*."""
    parts = []
    for part in module.split("/"):
        stem, _, number = part.rpartition("_")
        parts.append(f"{stem}_*" if number.isdigit() and stem in ("film", "block") else part)
    return "/".join(parts)
