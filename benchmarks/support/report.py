"""What the loaders' benchmarks do with what they find."""

from __future__ import annotations

import json
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any


def report(measure: Callable[[pathlib.Path, Any], dict[str, Any]], given: Any) -> None:
    """Measures in `given.directory` or a temporary one; prints, and writes `given.output`."""
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(pathlib.Path(given.directory or temporary), given)
    for name, value in found.items():
        print(f"{name}: {value}", flush=True)
    if given.output:
        pathlib.Path(given.output).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(given.output).write_text(json.dumps(found, indent=1))
