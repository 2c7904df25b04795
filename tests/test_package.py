"""The package as installed: a light import, one-way dependencies, a lock that fits setup.py."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "rt1_jax"

# Who may import whom inside rt1_jax. A room may also use the rooms of those it lists.
ROOMS = {
    "actions": {"binning"},
    "action_values": {"actions"},
    "binning": set(),
    "files": set(),
    "figures": {"files"},
    "host_tensorflow": set(),
    "letterbox": set(),
    "platforms": set(),
    "preprocessing": {"letterbox", "platforms"},
    "models": {"actions", "platforms", "preprocessing"},
    "language": {"files", "host_tensorflow"},
    "data": {
        "actions",
        "files",
        "figures",
        "host_tensorflow",
        "language",
        "letterbox",
        "envs",
        "preprocessing",
    },
    "envs": {"actions", "files"},
    "training": {
        "models",
        "platforms",
        "preprocessing",
        "data",
        "checkpoints",
        "actions",
        "action_values",
        "files",
        "language",
    },
    "checkpoints": {
        "models",
        "preprocessing",
        "actions",
        "files",
        "language",
        "host_tensorflow",
    },
    "policies": {
        "checkpoints",
        "models",
        "preprocessing",
        "actions",
        "action_values",
        "files",
        "language",
    },
    "evaluation": {
        "policies",
        "checkpoints",
        "training",
        "envs",
        "data",
        "actions",
        "action_values",
        "files",
        "figures",
        "language",
    },
    "serving": {"policies", "actions", "files", "language"},
    "analysis": {
        "evaluation",
        "policies",
        "checkpoints",
        "training",
        "models",
        "envs",
        "data",
        "actions",
        "action_values",
        "files",
        "figures",
        "language",
    },
}
HEAVY = {"tensorflow", "tensorflow_datasets", "tensorflow_hub", "mujoco", "matplotlib", "jax"}


def test_import_is_light() -> None:
    found = _modules_after("import rt1_jax")
    assert found.isdisjoint(HEAVY), sorted(found.intersection(HEAVY))
    assert "rt1_jax" in found
    # A bare interpreter holds some 60 modules; site-packages' .pth files add a few.
    extra = found - _modules_after("pass")
    assert len(extra) < 30, sorted(extra)


def test_environments_come_with_the_package_and_light() -> None:
    found = _modules_after("import rt1_jax\nassert callable(rt1_jax.envs.make)")
    assert "rt1_jax.envs" in found
    assert found.isdisjoint(HEAVY), sorted(found.intersection(HEAVY))


def test_version_is_one_number() -> None:
    import rt1_jax

    stated = re.search(r'version="([^"]+)"', (ROOT / "setup.py").read_text())
    assert stated is not None
    assert rt1_jax.__version__ == stated.group(1)


@pytest.mark.parametrize("room", ["models", "actions", "training", "policies", "serving"])
def test_room_imports_neither_tensorflow_nor_mujoco(room: str) -> None:
    files = _files(room)
    if not files:
        pytest.skip(f"no rt1_jax/{room} in this checkout")
    modules = ", ".join(_module_name(file) for file in files)
    found = _modules_after(f"import {modules}")
    assert found.isdisjoint({"tensorflow", "mujoco", "tensorflow_hub", "tensorflow_datasets"})


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_imports_go_one_way(room: str) -> None:
    allowed = ROOMS[room] | {room}
    found = {
        (file.relative_to(ROOT).as_posix(), target)
        for file in _files(room)
        for target in _imported_rooms(file)
        if target not in allowed
    }
    assert not found


def test_import_scanner_sees_every_form(tmp_path: Path) -> None:
    file = tmp_path / "sample.py"
    file.write_text(
        "import rt1_jax.envs.scene\n"
        "from rt1_jax import data\n"
        "def later():\n"
        "    from rt1_jax.training.loss import f\n"
    )
    assert _imported_rooms(file) == {"envs", "data", "training"}


def test_lock_satisfies_requirements() -> None:
    from packaging.requirements import Requirement

    pins = dict(
        line.strip().split("==")
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if line and not line.startswith(("#", " "))
    )
    setup = (ROOT / "setup.py").read_text()
    strings = re.findall(r'"([A-Za-z][\w.-]*(?:\[\w+\])?(?:>=|==)[^"]+)"', setup)
    requirements = [Requirement(text) for text in strings]
    assert len(requirements) > 20
    for requirement in requirements:
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert name in pins, f"{name} is not in requirements.lock: run `make lock`"
        assert requirement.specifier.contains(pins[name]), f"{requirement} against {pins[name]}"


def test_lock_names_no_place() -> None:
    assert "://" not in (ROOT / "requirements.lock").read_text()


def _modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def _files(room: str) -> list[Path]:
    single = PACKAGE / f"{room}.py"
    return [single] if single.exists() else sorted((PACKAGE / room).rglob("*.py"))


def _module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported_rooms(file: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        rooms |= {n.split(".")[1] for n in names if n.startswith("rt1_jax.")}
    return rooms
