"""Whether files, description and what is asked of them fit together, before an episode is read."""

from __future__ import annotations

from typing import Literal, get_args

from rt1_jax.data.oxe.description import RLDSDataset
from rt1_jax.data.oxe.registry import check_stored_name
from rt1_jax.data.oxe.schema import check_schema
from rt1_jax.data.rlds.source import RLDSSource
from rt1_jax.data.shards import DatasetError

ActionScale = Literal["physical", "rt1_x"]
SCALES: tuple[str, ...] = get_args(ActionScale)


def check_request(dataset: RLDSDataset, source: RLDSSource, scale: str) -> None:
    """Checks what can be known without an episode.

    Args:
      dataset: the description.
      source: the files.
      scale: what is to become of the actions, one of SCALES.

    Raises:
      OXEError: the files are of another dataset of the registry, or lack a key.
      DatasetError: the camera's key holds no encoded pictures, there is no such scale, or the
        dataset does not have it.
    """
    check_stored_name(dataset, source.name)
    check_schema(dataset, source.features)
    camera = source.features[dataset.image]
    if camera.dtype != "bytes" or camera.shape:
        raise DatasetError(
            f"{source.directory}: {dataset.image!r} is {camera.dtype} {list(camera.shape)} in a "
            "step, expected an encoded picture (tfds.features.Image, JPEG or PNG): write the "
            "dataset with that feature, or describe another camera (--registry)"
        )
    if scale not in SCALES:
        raise DatasetError(
            f"actions {scale!r}: expected one of {', '.join(map(repr, SCALES))} (--actions, "
            "data.rlds.actions)"
        )
    if scale == "rt1_x" and dataset.rt1_x is None:
        raise DatasetError(
            f"{dataset.name} has no published RT-1-X normalisation: take its actions as 'physical' "
            "(--actions, data.rlds.actions), or describe one in a file of your own (--registry, "
            "data.rlds.registry)"
        )
