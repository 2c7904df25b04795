"""Datasets of Open X-Embodiment, and one's own, as descriptions: what to read and what it means.

Robot datasets in RLDS share the shape (episodes of steps) and little else: every one names its
camera and its action differently, in its own unit, sign and rate. An `RLDSDataset` says this once,
with the source of each fact, and maps steps to RT-1's six action fields. Nothing here reads files
or needs TensorFlow.
"""

from rt1_jax.data.oxe.description import OXEError, RLDSDataset
from rt1_jax.data.oxe.mapping import closedness_of_open, one_hot_terminate, rt1_action
from rt1_jax.data.oxe.mixtures import RT1_X_WEIGHTS, RT1_X_WEIGHTS_LEFT_OUT
from rt1_jax.data.oxe.registry import get, load_user_file, names, register
from rt1_jax.data.oxe.schema import check_schema
from rt1_jax.data.oxe.specs import dataset_spec

__all__ = [
    "RT1_X_WEIGHTS",
    "RT1_X_WEIGHTS_LEFT_OUT",
    "OXEError",
    "RLDSDataset",
    "check_schema",
    "closedness_of_open",
    "dataset_spec",
    "get",
    "load_user_file",
    "names",
    "one_hot_terminate",
    "register",
    "rt1_action",
]
