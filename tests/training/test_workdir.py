"""Whose config a run's directory has, and what of it may change."""

import json

import pytest
import small

from rt1_jax.training.workdir import WorkdirError, check_workdir, claim_workdir


@pytest.fixture
def claimed(tmp_path):
    config = small.small_config(tmp_path / "data")
    return claim_workdir(tmp_path / "run", config.to_dict()), config


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("step.accumulate", 4),
        ("step.remat", "blocks"),
        ("step.packed_images", 3),
        ("step.tpu_compiler_options", ()),
        ("mesh.fsdp", 2),
        ("loader.workers", 9),
        ("log_every", 9),
    ],
)
def test_what_other_devices_ask_for_may_change(claimed, key, value):
    root, config = claimed
    with config.unlocked():
        config.update_from_flattened_dict({key: value})
    assert check_workdir(root, config.to_dict()) == root


@pytest.mark.parametrize(
    ("key", "value"),
    [("step.compute", "bfloat16"), ("step.batch_statistics", "replica"), ("batch_size", 77)],
)
def test_what_makes_it_another_run_may_not(claimed, key, value):
    root, config = claimed
    before = json.loads((root / "config.json").read_text())
    with config.unlocked():
        config.update_from_flattened_dict({key: value})
    with pytest.raises(WorkdirError, match=rf"{key} is .* there and '?{value}'? here \(1 keys"):
        claim_workdir(root, config.to_dict())
    assert json.loads((root / "config.json").read_text()) == before
