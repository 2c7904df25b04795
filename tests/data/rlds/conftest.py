"""What the tests of the RLDS importer share."""

import pathlib

import pytest
import rlds
from rlds_imports import FRACTAL

from rt1_jax.data.oxe import registry


@pytest.fixture(autouse=True)
def _forget_own(monkeypatch):
    monkeypatch.setattr(registry, "_own", {})


@pytest.fixture(scope="module")
def fractal(tmp_path_factory) -> pathlib.Path:
    """Six episodes of four steps in three files."""
    directory = tmp_path_factory.mktemp("rlds")
    return rlds.write_rlds(directory, FRACTAL, episodes=6, steps=4, shards=3)
