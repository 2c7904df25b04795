"""Gato (Reed et al. 2022) at RT-1's size, the paper's baseline: `paper` (36.7 M) or `tabletop`.

python train.py --config=configs/gato.py:tabletop --workdir=runs/gato

Everything but the model is as in `rt1.py` or `tabletop.py`. Image patches, the instruction and
actions are one sequence; actions come token after token. `paper` has 1,248 places in it, where
RT-1 has 114: lower the batch size accordingly. Cost and what to expect of `tabletop`:
docs/experiments.md.
"""

from ml_collections import ConfigDict

from configs import rt1, tabletop
from rt1_jax.models.gato import gato_config, gato_tabletop_config

_SIZES = {
    "paper": (rt1.get_config, gato_config),
    "tabletop": (tabletop.get_config, gato_tabletop_config),
}


def get_config(size: str = "paper") -> ConfigDict:
    if size not in _SIZES:
        raise ValueError(f"configs/gato.py:{size}: expected one of {[*_SIZES]}")
    base, model = _SIZES[size]
    config = base()
    config.name = "gato" if size == "paper" else f"gato_{size}"
    config.architecture = "gato"
    config.model = ConfigDict(model().to_json())
    return config
