"""How often the published RT-1-X training draws from each dataset.

From the "Dataset weights" cell of `colabs/Minimal_Training_Example.ipynb` in
`google-deepmind/open_x_embodiment`, under the datasets' TFDS names (its `rt_1` is
`fractal20220817_data`). A weight is relative: the notebook draws windows in these proportions,
whatever the datasets' sizes.
"""

from __future__ import annotations

RT1_X_WEIGHTS: dict[str, float] = {
    "fractal20220817_data": 150.0,
    "bridge": 50.0,
    "taco_play": 5.0,
    "jaco_play": 20.0,
    "berkeley_cable_routing": 20.0,
    "roboturk": 10.0,
    "nyu_door_opening_surprising_effectiveness": 5.0,
    "viola": 3.0,
    "berkeley_autolab_ur5": 5.0,
    "toto": 5.0,
}
"""The ten datasets that the notebook samples."""

RT1_X_WEIGHTS_LEFT_OUT: dict[str, float] = {"kuka": 20.0, "language_table": 30.0}
"""Weights that the notebook states in comments only: it has no mapping for these two."""
