"""BC-Z (Jang et al. 2021), the paper's baseline: `paper` (14.3 M), `xl` (34.4 M) or `tabletop`.

python train.py --config=configs/bc_z.py:tabletop --workdir=runs/bc_z

Everything but the model is as in `rt1.py` or `tabletop.py`. ResNet-18 with FiLM, no history, no
transformer, continuous actions; `xl` is widened to RT-1's size. Cost and what to expect of
`tabletop`: docs/experiments.md.
"""

from ml_collections import ConfigDict

from configs import rt1, tabletop
from rt1_jax.models.bc_z import bc_z_config, bc_z_tabletop_config, bc_z_xl_config

_SIZES = {
    "paper": (rt1.get_config, bc_z_config),
    "xl": (rt1.get_config, bc_z_xl_config),
    "tabletop": (tabletop.get_config, bc_z_tabletop_config),
}


def get_config(size: str = "paper") -> ConfigDict:
    if size not in _SIZES:
        raise ValueError(f"configs/bc_z.py:{size}: expected one of {[*_SIZES]}")
    base, model = _SIZES[size]
    config = base()
    config.name = "bc_z" if size == "paper" else f"bc_z_{size}"
    config.architecture = "bc_z"
    config.model = ConfigDict(model().to_json())
    return config
