"""RT-1 changed in one respect: `BASE/VARIANT`, e.g. `rt1/no_history` or `tabletop/lesson`.

python train.py --config=configs/ablations.py:tabletop/no_history --workdir=runs/no_history

BASE is `rt1` or `tabletop`, the config of that name; VARIANT is one of rt1_jax.analysis.variants:
no_history, no_transformer, no_pretraining, continuous, autoregressive, smaller (the paper's
ablations), film_end, language_token, no_language, and lesson (the simplified model of
the lesson). Give all but no_pretraining the same --config.backbone_weights=FILE: without it they
begin at random, too. Cost as the base; what to expect is in docs/experiments.md.
"""

from ml_collections import ConfigDict

from configs import rt1, tabletop
from rt1_jax.analysis.variants import vary

_BASES = {"rt1": rt1.get_config, "tabletop": tabletop.get_config}


def get_config(which: str = "tabletop/rt1") -> ConfigDict:
    base, _, variant = which.partition("/")
    if base not in _BASES:
        raise ValueError(
            f"configs/ablations.py:{which}: expected BASE/VARIANT, BASE of {[*_BASES]}"
        )
    return vary(_BASES[base](), variant or "rt1")
