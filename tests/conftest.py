"""What every test shares: a quiet CPU-only set-up, a compilation cache, the parity fixtures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Before anything imports JAX or TensorFlow. MUJOCO_GL is left to rt1_jax.envs, which falls back
# from EGL to OSMesa.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# Most of the suite's time would be XLA compiling the same programs again.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take minutes come first, so that no worker is left with one at the end."""
    items.sort(key=lambda item: not item.path.is_relative_to(ROOT / "tests" / "training"))


@pytest.fixture(scope="session")
def repository_root() -> Path:
    """The checkout that is tested."""
    return ROOT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of large parity fixtures; the test is skipped where it is not at hand."""
    path = Path(os.environ.get("RT1_JAX_SHARED", ROOT.parent / "shared"))
    if not (path / "golden").is_dir():
        pytest.skip(f"no parity fixtures at {path}: set RT1_JAX_SHARED to the folder of golden/")
    return path
