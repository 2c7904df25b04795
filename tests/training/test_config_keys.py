"""A run from before a config key is the same run after it."""

import json

import pytest
from ml_collections import ConfigDict
from small import small_config

from rt1_jax.analysis.sweep import Run
from rt1_jax.data.augmentation import Augmentation
from rt1_jax.training.config_keys import NEWER_KEYS, data_with_newer, flatten, without_newer
from rt1_jax.training.workdir import WorkdirError, claim_workdir


def older(config):
    """As it was before the keys came, and as JSON gives it back."""
    config = config.to_dict()
    for key in NEWER_KEYS["data"]:
        del config["data"][key]
    for key in NEWER_KEYS.keys() - {"data"}:
        del config[key]
    return json.loads(json.dumps(config))


def test_the_neutral_values_change_nothing():
    assert Augmentation.from_config(NEWER_KEYS["data"]) == Augmentation()


def test_data_with_every_key():
    found = data_with_newer({"directory": "x", "rlds": {"dataset": "bridge"}, "chunk": 3})
    assert found["rlds"] == {**NEWER_KEYS["data"]["rlds"], "dataset": "bridge"}
    assert (found["chunk"], found["mixture"], found["directory"]) == (3, (), "x")
    assert set(found) == {"directory", *NEWER_KEYS["data"]}


def test_flatten():
    assert flatten({"a": {"b": (1, (2,))}, "c": {}}) == {"a.b": [1, [2]]}


def test_a_run_keeps_its_name_until_a_newer_key_is_used(tmp_path):
    config = small_config(tmp_path)
    name = Run(config).name
    assert Run(ConfigDict(older(config))).name == name
    assert without_newer({"seed": 1}) == {"seed": 1}
    config.data.jitter.hue = 0.1
    assert Run(config).name != name


def test_a_run_goes_on_until_a_newer_key_is_used(tmp_path):
    config = small_config(tmp_path)
    claim_workdir(tmp_path / "run", older(config))
    claim_workdir(tmp_path / "run", config.to_dict())
    config.data.jitter.contrast = (0.8, 1.2)
    told = r"data.jitter.contrast is \[1.0, 1.0\] there and \[0.8, 1.2\] here"
    with pytest.raises(WorkdirError, match=told):
        claim_workdir(tmp_path / "run", config.to_dict())
