"""Paths and names of checkpoints."""

from __future__ import annotations

import pathlib

import pytest

from rt1_jax import load_policy
from rt1_jax.checkpoints import formats, native
from rt1_jax.checkpoints.location import PRETRAINED, CheckpointError, is_url, resolve


def test_a_name_a_path_and_a_directory_of_that_name() -> None:
    assert resolve("tabletop-small") == PRETRAINED / "tabletop-small"
    assert resolve("./tabletop-small") == pathlib.Path("tabletop-small")
    assert resolve(pathlib.Path("runs/x")) == pathlib.Path("runs/x")
    assert native.find_checkpoint("tabletop-small") == PRETRAINED / "tabletop-small"
    assert formats.detect_format("tabletop-small") == "native"


def test_a_misspelt_name_lists_those_that_ship() -> None:
    with pytest.raises(CheckpointError, match=r"tabletop_small: .*\(shipped: tabletop-small\)"):
        load_policy("tabletop_small")


@pytest.mark.parametrize("path", ["gs://bucket/run", "s3://bucket/run", pathlib.Path("gs://b/run")])
def test_urls_are_told_from_paths(path: str | pathlib.Path) -> None:
    assert is_url(path)
    with pytest.raises(CheckpointError, match="^(gs|s3)://.*/run: .*copy it here first"):
        resolve(path)
    assert not is_url("runs/a:b")
    assert not is_url("/models/rt1main")
