"""A small RT-1 for the tabletop benchmark: the model of `rt1.py` in other numbers.

python train.py --config=configs/tabletop.py --workdir=runs/tabletop

Cost: 13.3 min on two CPU cores, with 4,000 demonstrations of `pick` and `move_near` in
data/tabletop. Expected: 98 of 100 episodes on `seen`, and 0 told a wrong instruction.
"""

from ml_collections import ConfigDict

from rt1_jax.models.config import (
    EfficientNetConfig,
    ImageTokenizerConfig,
    RT1Config,
    StageConfig,
    TokenLearnerConfig,
    TransformerConfig,
)
from rt1_jax.training.config_keys import complete


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.name = "tabletop"
    config.seed = 0
    config.architecture = "rt1"
    config.model = ConfigDict(model().to_json())
    config.backbone_weights = ""  # a file with ImageNet weights

    config.data = ConfigDict()
    config.data.directory = "data/tabletop"
    config.data.validation_episodes = 100
    config.data.episodes = 0  # all
    config.data.tasks = 1.0  # share of the tasks
    config.data.embedding_components = 24  # model().embedding_size
    config.data.travel_repeats = 3  # a third of the windows becomes three fifths
    config.data.max_shift = (3, 3)  # pixels (y, x) of 64

    config.batch_size = 32  # windows
    config.smoothing = 2.0  # bins
    config.optimizer = ConfigDict()
    config.optimizer.steps = 9_000
    config.optimizer.learning_rate = 8e-3
    config.optimizer.final_learning_rate = 1e-5
    config.optimizer.warmup_steps = 200
    config.optimizer.clip_norm = 1.0
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.98
    config.optimizer.muon_rms = 0.2  # Muon
    config.optimizer.weight_decay = 1e-3
    config.optimizer.average_decay = 0.998

    config.loader = ConfigDict()
    config.loader.workers = 0
    config.loader.threads = 1
    config.loader.cache_bytes = 2_000_000_000

    config.log_every = 50
    config.checkpoint_every = 1000
    config.keep_checkpoints = 2
    return complete(config)  # the other keys of rt1.py, with values that change nothing


def model() -> RT1Config:
    """178,728 parameters, 64 x 64 pixels, two frames."""
    efficientnet = EfficientNetConfig(
        stages=(
            StageConfig(repeats=1, kernel=3, stride=1, expand_ratio=2, filters=24),
            StageConfig(repeats=2, kernel=3, stride=2, expand_ratio=2, filters=48),
        ),
        stem_filters=24,
        stem_kernel=5,
        stem_stride=4,
        head_filters=0,
        width_coefficient=1.0,
        depth_coefficient=1.0,
        stochastic_depth_rate=0.0,
        coordinate_channels=2,
    )
    tokenizer = ImageTokenizerConfig(
        efficientnet=efficientnet,
        image_size=(64, 64),
        token_size=96,
        token_learner=TokenLearnerConfig(tokens=8, hidden=64),
    )
    transformer = TransformerConfig(
        layers=2, heads=4, key_dim=24, d_model=96, dropout_rate=0.0, feed_forward_size=96
    )
    return RT1Config(
        image_tokenizer=tokenizer, transformer=transformer, frames=2, embedding_size=24
    )
