"""Datasets by name: the eleven of Open X-Embodiment described here, and one's own."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import sys

from rt1_jax.data.oxe.description import OXEError, RLDSDataset
from rt1_jax.data.oxe.franka import CABLE_ROUTING, TACO_PLAY, TOTO, VIOLA
from rt1_jax.data.oxe.google_robots import FRACTAL, LANGUAGE_TABLE
from rt1_jax.data.oxe.other_arms import (
    AUTOLAB_UR5,
    BRIDGE,
    JACO_PLAY,
    NYU_DOOR_OPENING,
    ROBOTURK,
)
from rt1_jax.data.oxe.schema import nearest

_OPEN_X: dict[str, RLDSDataset] = {
    dataset.name: dataset
    for dataset in (
        FRACTAL,
        BRIDGE,
        TACO_PLAY,
        JACO_PLAY,
        CABLE_ROUTING,
        ROBOTURK,
        NYU_DOOR_OPENING,
        VIOLA,
        AUTOLAB_UR5,
        TOTO,
        LANGUAGE_TABLE,
    )
}
_own: dict[str, RLDSDataset] = {}


def names() -> tuple[str, ...]:
    """All known datasets, those of Open X-Embodiment first."""
    return (*_OPEN_X, *_own)


def get(name: str) -> RLDSDataset:
    """The dataset of that name. Raises OXEError, listing the nearest names, where there is none."""
    found = _OPEN_X.get(name) or _own.get(name)
    if found is None:
        raise OXEError(
            f"unknown dataset {name!r}; {nearest(name, names())}. Describe your own in a file "
            "and load it with `load_user_file`"
        )
    return found


def check_stored_name(dataset: RLDSDataset, stored: str) -> None:
    """Checks that files are not another dataset's than the one whose description is taken.

    A description of one's own may be taken for any files, and any for files of an unknown name.

    Args:
      dataset: the description.
      stored: the files' own name.

    Raises:
      OXEError: another description of that name is known.
    """
    if dataset.name in _OPEN_X and stored != dataset.name and stored in names():
        raise OXEError(
            f"the files are of {stored!r}, the description asked for is that of {dataset.name!r}, "
            f"with other bounds, units and rate: take --dataset={stored} (data.rlds.dataset), or "
            "describe what the files hold under a name of its own in a file of yours"
        )


def register(dataset: RLDSDataset) -> RLDSDataset:
    """Makes a dataset of one's own known, and returns it.

    A name of one's own may be registered again, so that a file can be loaded twice.

    Raises:
      OXEError: not an RLDSDataset, or the name belongs to Open X-Embodiment.
    """
    _check_own(dataset)
    _own[dataset.name] = dataset
    return dataset


def load_user_file(path: str | os.PathLike[str]) -> tuple[RLDSDataset, ...]:
    """Runs a user's Python file and registers the datasets that it describes.

    Args:
      path: a Python file with `DATASETS = [RLDSDataset(...), ...]`, or that calls `register`.

    Returns:
      The datasets that it describes, those of `DATASETS` last.

    Raises:
      OXEError: no such file, it fails when run (the cause is chained), it describes nothing, or
        something that is no dataset. Nothing of it is registered then.
    """
    file = pathlib.Path(path)
    if not file.is_file():
        raise OXEError(f"no file {file}: expected a Python file with DATASETS = [RLDSDataset(...)]")
    before = dict(_own)
    try:
        listed = _listed(file, _run(file))
        called = [d for name, d in _own.items() if before.get(name) is not d]
        found = (*called, *(register(dataset) for dataset in listed))
        if not found:
            raise OXEError(
                f"{file} describes no dataset: expected DATASETS = [RLDSDataset(...)] or calls "
                "of `register`"
            )
    except OXEError:
        _own.clear()
        _own.update(before)  # all of a file or nothing
        raise
    return found


def _listed(file: pathlib.Path, module: object) -> tuple[RLDSDataset, ...]:
    """The file's DATASETS, checked, but for those that it has registered itself."""
    listed = getattr(module, "DATASETS", ())
    if not isinstance(listed, list | tuple):
        raise OXEError(
            f"{file}: DATASETS must be a list of RLDSDataset, got {type(listed).__name__}"
        )
    seen: set[str] = set()
    for number, dataset in enumerate(listed):
        try:
            _check_own(dataset)
        except OXEError as error:
            raise OXEError(f"{file}: DATASETS[{number}]: {error}") from error
        if dataset.name in seen:
            raise OXEError(f"{file}: DATASETS[{number}]: the name {dataset.name!r} comes twice")
        seen.add(dataset.name)
    return tuple(dataset for dataset in listed if _own.get(dataset.name) is not dataset)


def _check_own(dataset: object) -> None:
    if not isinstance(dataset, RLDSDataset):
        raise OXEError(f"register takes an RLDSDataset, got {type(dataset).__name__}")
    if dataset.name in _OPEN_X:
        raise OXEError(
            f"the name {dataset.name!r} belongs to a dataset of Open X-Embodiment; "
            "register yours under another one"
        )


def _run(file: pathlib.Path) -> object:
    name = f"_rt1_jax_user_datasets_{abs(hash(file.resolve()))}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise OXEError(f"{file} is not a Python file (expected a name ending in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise OXEError(f"{file} fails when run: {type(error).__name__}: {error}") from error
    finally:
        sys.modules.pop(name, None)
    return module
