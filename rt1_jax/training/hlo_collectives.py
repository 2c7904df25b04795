"""The collectives of a compiled program, read from its optimised HLO text.

    collectives = read_collectives(compiled.as_text())

An instruction in a loop's body stands once in the text and is executed as often as the loop turns;
`Collective.executions` says how often where the text tells: by the loop's `known_trip_count`, or by
a condition that compares with one constant, as that of `lax.scan` does. A loop of which neither is
known counts as one turn, and `Program.unknown_loops` counts these.

An asynchronous pair is counted by its start (`all-reduce-start`, or an `async-start` around it).
On a TPU a reduce-scatter may stand as a fusion of an all-reduce and a slice: it then counts as the
all-reduce it contains.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator

KINDS = ("all-reduce", "reduce-scatter", "all-gather", "all-to-all", "collective-permute")

_BITS = {"pred": 8, "token": 0, "s4": 4, "u4": 4, "s2": 2, "u2": 2, "bf16": 16, "c64": 64}
_ARRAY = re.compile(r"\b([a-z][a-z0-9]*)\[([0-9,<=]*)\]")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\(.*)?\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = ")
_CALLED = re.compile(r"(?:calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'known_trip_count"?:\s*\{"?n"?:\s*"?(\d+)')


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective instruction.

    Attributes:
      kind: one of `KINDS`.
      bytes: of the whole array (or tuple of arrays) on one device: before a reduce-scatter, after
        an all-gather.
      group: devices that take part together.
      executions: how often it runs in one call of the program.
    """

    kind: str
    bytes: int
    group: int
    executions: int = 1

    @property
    def wire_bytes(self) -> float:
        """Bytes that leave one device in one execution, by the ring algorithm."""
        if self.kind == "collective-permute":
            return float(self.bytes)
        share = (self.group - 1) / max(self.group, 1)
        return self.bytes * share * (2 if self.kind == "all-reduce" else 1)


@dataclasses.dataclass(frozen=True)
class Program:
    """What a program's text says of collectives and loops.

    Attributes:
      collectives: in the order of the text's computations as they are called.
      trip_counts: of the loops that are known.
      unknown_loops: loops counted as one turn.
    """

    collectives: tuple[Collective, ...]
    trip_counts: tuple[int, ...]
    unknown_loops: int

    def by_kind(self) -> dict[str, dict[str, int]]:
        """{kind: {"instructions", "executions", "bytes"}}; bytes over all executions."""
        found: dict[str, dict[str, int]] = {}
        for one in self.collectives:
            sums = found.setdefault(one.kind, {"instructions": 0, "executions": 0, "bytes": 0})
            sums["instructions"] += 1
            sums["executions"] += one.executions
            sums["bytes"] += one.bytes * one.executions
        return {kind: found[kind] for kind in KINDS if kind in found}

    @property
    def wire_bytes(self) -> float:
        """Bytes that leave one device in a call of the program."""
        return sum(one.wire_bytes * one.executions for one in self.collectives)


def shape_bytes(shape: str) -> int:
    """Bytes of an HLO shape: an array's, or the sum over a tuple's."""
    return sum(_array_bytes(kind, sizes) for kind, sizes in _ARRAY.findall(_without_layouts(shape)))


def read_collectives(text: str) -> Program:
    """Reads the text of an optimised HLO module."""
    devices = math.prod(
        int(n) for n in re.findall(r"(?:num_partitions|replica_count)=(\d+)", text[:20_000])
    )
    computations, entry = _computations(text)
    reader = _Reader(computations, devices)
    collectives = tuple(reader.visit(entry, 1))
    return Program(collectives, tuple(reader.trip_counts), reader.unknown_loops)


@dataclasses.dataclass(frozen=True)
class _Instruction:
    shape: str
    opcode: str
    rest: str  # operands and attributes


class _Reader:
    """Follows calls from the entry, with the number of times that each is made."""

    def __init__(self, computations: dict[str, list[_Instruction]], devices: int) -> None:
        self._computations = computations
        self._devices = devices
        self.trip_counts: list[int] = []
        self.unknown_loops = 0

    def visit(self, name: str, executions: int) -> Iterator[Collective]:
        for one in self._computations.get(name, []):
            kind = one.opcode.removesuffix("-start")
            if kind in KINDS:
                group = _group(one.rest, self._devices)
                yield Collective(kind, _payload(one, kind, group), group, executions)
            elif one.opcode == "while":
                body = re.search(r"body=%?([\w.\-]+)", one.rest)
                turns = self._turns(one.rest)
                if turns is None:
                    self.unknown_loops += 1
                else:
                    self.trip_counts.append(turns)
                if body:
                    yield from self.visit(body[1], executions * (1 if turns is None else turns))
            elif one.opcode not in ("async-update", "async-done"):
                for called in _called(one.rest):
                    yield from self.visit(called, executions)

    def _turns(self, rest: str) -> int | None:
        known = _TRIPS.search(rest)
        if known:
            return int(known[1])
        condition = re.search(r"condition=%?([\w.\-]+)", rest)
        instructions = self._computations.get(condition[1], []) if condition else []
        constants = [
            int(found[1])
            for one in instructions
            if one.opcode == "constant" and (found := re.match(r"\((\d+)\)", one.rest))
        ]
        compared = any(
            one.opcode == "compare" and "direction=LT" in one.rest for one in instructions
        )
        return constants[0] if compared and len(constants) == 1 else None


def _computations(text: str) -> tuple[dict[str, list[_Instruction]], str]:
    found: dict[str, list[_Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header and not line.startswith("HloModule"):
            current = found.setdefault(header[2], [])
            entry = header[2] if header[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (start := _INSTRUCTION.match(line)):
            instruction = _instruction(line[start.end() :])
            if instruction:
                current.append(instruction)
    return found, entry


def _instruction(text: str) -> _Instruction | None:
    end = _closing(text) if text.startswith("(") else text.find(" ")
    found = re.match(r"\s*([\w\-]+)(\(.*)", text[end:])
    return _Instruction(text[:end], found[1], found[2]) if found else None


def _closing(text: str) -> int:
    """Where the parenthesis that opens `text` is closed."""
    depth = 0
    for i, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return i + 1
    return len(text)


def _called(rest: str) -> list[str]:
    names = _CALLED.findall(rest)
    for branches in _BRANCHES.findall(rest):
        names += [name.strip().lstrip("%") for name in branches.split(",")]
    return names


def _payload(one: _Instruction, kind: str, group: int) -> int:
    shape = one.shape
    if one.opcode.endswith("-start") and kind != "all-reduce":
        # (operands, results, contexts...)
        parts = _parts(shape)
        shape = parts[1] if len(parts) > 1 else shape
    return shape_bytes(shape) * (group if kind == "reduce-scatter" else 1)


def _parts(shape: str) -> list[str]:
    """A tuple's elements."""
    parts, depth, current = [], 0, ""
    for letter in shape.strip()[1:-1] if shape.startswith("(") else "":
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += letter
    return [*parts, current]


def _group(rest: str, devices: int) -> int:
    """Devices of one group; all of them where none are named."""
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", rest)
    if listed:
        return listed[1].count(",") + 1
    counted = re.search(r"replica_groups=\[(\d+),(\d+)\]<=", rest)
    if counted:
        return int(counted[2])
    named = re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", rest)
    if named:
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", named[1])}
        axes = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", named[2])
        return math.prod(int(part) if part else sizes[name] for name, part in axes)
    return devices


def _without_layouts(shape: str) -> str:
    return re.sub(r"\{[^}]*\}|/\*.*?\*/", "", shape)


def _array_bytes(kind: str, sizes: str) -> int:
    bits = _BITS.get(kind)
    if bits is None:
        digits = re.match(r"[a-z]+(\d+)", kind)  # f8e4m3fn is of 8 bits, s32 of 32
        bits = int(digits[1]) if digits else 0
    count = math.prod(int(size.removeprefix("<=")) for size in sizes.split(",") if size)
    return (count * bits + 7) // 8
