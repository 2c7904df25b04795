"""The paper's size really trains: 43 s on two cores, so run by `make test ARGS="-m slow"`."""

import numpy as np
import pytest
import small

from configs import rt1
from rt1_jax.checkpoints import native
from rt1_jax.training.loop import train
from rt1_jax.training.metrics import read_metrics


@pytest.mark.slow
def test_a_step_of_the_full_model_at_300_pixels(tmp_path):
    data = small.make_dataset(tmp_path / "data", lengths=(8, 7), size=(256, 320))
    config = rt1.get_config()
    config.data.directory = str(data)
    config.data.validation_episodes = 0
    config.batch_size = 1
    config.loader.workers = 0
    config.optimizer.steps, config.optimizer.warmup_steps = 1, 0
    config.log_every = 1
    summary = train(config, tmp_path / "run", progress=False)
    assert summary["parameters"] == 35_120_544
    row = read_metrics(tmp_path / "run")[0]
    # No LayerNorm comes before the output, so that an untrained model is far from uniform.
    assert np.log(256) < row["loss"] < 30
    assert 0 < row["gradient_norm"] < np.inf
    assert native.read_description(tmp_path / "run" / "checkpoints" / "1").step == 1
