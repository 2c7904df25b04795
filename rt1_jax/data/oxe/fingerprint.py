"""What a dataset's description makes of the data, as plain values that an import can compare.

Names and numbers are told as they are; functions by hashes of their source, and of what they use.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import linecache
import os
import pathlib
import sysconfig
import types
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from rt1_jax.data.oxe import registry
from rt1_jax.data.oxe.description import RLDSDataset

_PACKAGE = __name__.split(".")[0]
_LIBRARIES = tuple(
    os.path.join(path, "") for name, path in sysconfig.get_paths().items() if "lib" in name
)


def fingerprint(dataset: RLDSDataset, rt1_x: bool) -> dict[str, Any]:
    """All of a description that imported data depend on, JSON-able.

    Args:
      dataset: the description.
      rt1_x: whether the actions are normalised as RT-1-X's were; else that function is no part.

    Returns:
      the description's attributes, and as "code" {where: SHA-256} of the functions, of what they
      call and of the constants that they use; libraries are left out. For this package's functions
      "where" is their module, and what is hashed are their own lines, so that a release which
      changes another dataset changes nothing here. For yours it is your file, all of it.
    """
    code = _Code()
    code.add(dataset.mapping)
    if rt1_x:
        code.add(dataset.rt1_x)
    return {
        "action_spec": dataset.action_spec.to_json(),
        "frame_rate": dataset.frame_rate,
        "image": dataset.image,
        "instruction": dataset.instruction,
        "embedding": dataset.embedding,
        "embedding_encoder": dataset.embedding_encoder,
        "action_keys": list(dataset.action_keys),
        "code": code.hashes(),
    }


class _Code:
    """Functions with all that they use, by where it is written, in the order that it is met."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}
        self._seen: dict[int, Any] = {}  # held, so that no id comes twice
        self._files: set[str] = set()

    def hashes(self) -> dict[str, str]:
        return {
            where: hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
            for where, texts in sorted(self._texts.items())
        }

    def add(self, value: Any, where: str = "") -> None:
        """Adds a function, or a value that the code at `where` uses."""
        if isinstance(value, bool | int | float | str | bytes):
            self._note(where, repr(value))
        elif isinstance(value, np.ndarray | np.generic):
            self._note(where, f"{value.dtype} {np.shape(value)} {np.asarray(value).tobytes()!r}")
        elif isinstance(value, tuple):  # whether equal ones are one object differs by Python
            self._add_all(value, where)
        elif id(value) not in self._seen:
            self._seen[id(value)] = value
            self._add_new(value, where)

    def _add_new(self, value: Any, where: str) -> None:
        if isinstance(value, types.FunctionType):
            self._add_function(value)
        elif isinstance(value, RLDSDataset):  # of which a description of one's own is made
            self._add_all((value.mapping, value.rt1_x), where)
        elif isinstance(value, types.MethodType):
            self._add_all((value.__func__, value.__self__), where)
        elif isinstance(value, functools.partial):
            self._add_all((value.func, value.args, value.keywords), where)
        elif isinstance(value, dict):
            self._add_all([part for item in value.items() for part in item], where)
        elif isinstance(value, list):
            self._add_all(value, where)
        elif isinstance(value, set | frozenset):
            self._add_all(sorted(value, key=repr), where)
        elif isinstance(value, type):
            members = [getattr(m, "fget", getattr(m, "__func__", m)) for m in vars(value).values()]
            self._add_all([m for m in members if isinstance(m, types.FunctionType)], where)
        elif isinstance(inspect.getattr_static(value, "__call__", None), types.FunctionType):
            self._add_all((type(value), vars(value)), where)

    def _add_all(self, values: Iterable[Any], where: str) -> None:
        for value in values:
            self.add(value, where)

    def _add_function(self, function: types.FunctionType) -> None:
        code, module = function.__code__, function.__module__ or ""
        ours = module.split(".")[0] == _PACKAGE
        if not ours and code.co_filename.startswith((*_LIBRARIES, "<frozen")):
            return
        if module == registry.__name__:  # it knows all datasets, not the same in each process
            return
        where = module if ours else pathlib.Path(code.co_filename).name
        linecache.checkcache(code.co_filename)
        lines = linecache.getlines(code.co_filename)
        if not lines:  # typed into a shell, or shipped without its source
            self._note(where, "".join(part.co_code.hex() for part in _nested(code)))
        elif ours:
            first, last = _span(code)
            self._note(where, "".join(lines[first - 1 : last]))
        elif code.co_filename not in self._files:
            self._files.add(code.co_filename)
            self._note(where, "".join(lines))
        self._add_all((function.__defaults__, function.__kwdefaults__), where)
        self._add_all([cell.cell_contents for cell in function.__closure__ or ()], where)
        names = [name for part in _nested(code) for name in part.co_names]
        for name in names:
            used = function.__globals__.get(name)
            if isinstance(used, types.ModuleType):  # of a module only what is named with it
                self._add_all([getattr(used, attribute, None) for attribute in names], where)
            else:
                self.add(used, where)

    def _note(self, where: str, text: str) -> None:
        self._texts.setdefault(where, []).append(text)


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    """A function's code, and that of those inside of it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _nested(constant)


def _span(code: types.CodeType) -> tuple[int, int]:
    """The first and the last of the lines that a function is written on."""
    lines = [code.co_firstlineno]
    for part in _nested(code):
        for start, end, *_ in part.co_positions():
            lines += [line for line in (start, end) if line]
    return min(lines), max(lines)
