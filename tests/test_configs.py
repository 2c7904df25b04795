"""The files of configs/: that they load, agree with each other, and say what they promise."""

import importlib.util

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from rt1_jax.models import registry
from rt1_jax.training.optimizer import make_schedule


def load(root, name):
    path = root / "configs" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"config_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, module.get_config()


def flat(tree, prefix=""):
    if isinstance(tree, dict):
        return {k: v for key, x in tree.items() for k, v in flat(x, f"{prefix}{key}.").items()}
    return {prefix[:-1]: tree}


def parameter_count(config: ConfigDict) -> int:
    model = registry.build(config.architecture, config.model.to_dict())
    height, width = config.model.image_tokenizer.image_size
    images = jax.ShapeDtypeStruct((1, config.model.frames, height, width, 3), np.uint8)
    embeddings = jax.ShapeDtypeStruct((1, config.model.embedding_size), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images, embeddings)
    return sum(x.size for x in jax.tree.leaves(shapes["params"]))


def test_tabletop_differs_from_rt1_by_numbers_only(repository_root):
    small, full = (flat(load(repository_root, n)[1].to_dict()) for n in ("tabletop", "rt1"))
    assert small.keys() == full.keys()
    named = {"name", "data.directory"}
    for key in small.keys() - named:
        if isinstance(small[key], str):
            assert small[key] == full[key], key
        if key.endswith("stages"):
            assert all(row.keys() == full[key][0].keys() for row in small[key])


def test_rt1_has_the_size_of_the_original(repository_root):
    assert parameter_count(load(repository_root, "rt1")[1]) == 35_120_544


def test_rt1_x_has_the_size_of_the_original_and_differs_from_rt1_by_the_model(repository_root):
    config = load(repository_root, "rt1_x")[1]
    assert parameter_count(config) == 56_896_809
    ours, base = (flat(c.to_dict()) for c in (config, load(repository_root, "rt1")[1]))
    differing = {key for key in ours if ours[key] != base[key]}
    assert {key for key in differing if not key.startswith("model.")} == {"name", "data.directory"}
    assert config.model.frames == 15


def test_tabletop_is_small_enough_to_ship(repository_root):
    count = parameter_count(load(repository_root, "tabletop")[1])
    assert 100_000 < count < 1_200_000  # float32, 5 MB


@pytest.mark.parametrize("name", ["tabletop", "rt1", "rt1_x"])
def test_a_config_opens_with_its_command_and_has_a_schedule(repository_root, name):
    module, config = load(repository_root, name)
    assert f"python train.py --config=configs/{name}.py --workdir=" in module.__doc__
    schedule = make_schedule(config.optimizer)
    peak = config.optimizer.warmup_steps
    np.testing.assert_allclose(float(schedule(peak)), config.optimizer.learning_rate, rtol=1e-6)
    end = float(schedule(config.optimizer.steps))
    np.testing.assert_allclose(end, config.optimizer.final_learning_rate, rtol=1e-4)
