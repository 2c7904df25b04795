"""RT-1-X's model (Open X-Embodiment 2023): 81 tokens a frame, 15 frames, 56.9 M parameters.

python train.py --config=configs/rt1_x.py --workdir=runs/rt1_x --config.data.directory=DATA

DATA is a dataset directory with RT-1-X's action spec (world_vector up to 2). With
`configs/rt1_x.py:open_x` it is the published mixture: the ten datasets of `oxe.RT1_X_WEIGHTS`, each
imported to data/open_x/NAME with --actions=rt1_x --image_size=256,320 --image_fit=pad.
Everything but the model and the name is as in `rt1.py`; so are its remarks. A window has
15 x 92 = 1,380 slots in the transformer, where RT-1 has 114: lower the batch size accordingly.
"""

from ml_collections import ConfigDict

from configs import rt1
from rt1_jax.data import oxe
from rt1_jax.models.config import rt1_x_config


def get_config(data: str = "one") -> ConfigDict:
    if data not in ("one", "open_x"):
        raise ValueError(f"configs/rt1_x.py:{data}: expected nothing, or open_x")
    config = rt1.get_config()
    config.name = "rt1_x"
    config.model = ConfigDict(rt1_x_config().to_json())
    config.data.directory = "data/open_x_embodiment"
    if data == "open_x":
        config.data.mixture = tuple(
            (f"data/open_x/{name}", weight) for name, weight in oxe.RT1_X_WEIGHTS.items()
        )
        config.data.validation_episodes = 10  # of each; the smallest has 135
    return config
