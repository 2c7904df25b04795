"""Weight files of Keras and PyTorch as plain mappings of names to arrays."""

from __future__ import annotations

import io
import pathlib
import zipfile
from typing import Any

import numpy as np

from rt1_jax.checkpoints.native import CheckpointError
from rt1_jax.checkpoints.tf_bundle import check_not_lfs_pointer

_HDF5 = b"\x89HDF"


def read_tensors(file: pathlib.Path) -> dict[str, np.ndarray]:
    """Every tensor of a ``.h5``, ``.keras``, ``.safetensors`` or ``.pth`` file, by its name there.

    Pickles are read by PyTorch's safe loader only, which executes nothing.

    Raises:
      CheckpointError: the file is missing, damaged or of another kind, or the library that reads
        it is not installed.
    """
    if not file.is_file():
        raise CheckpointError(f"{file}: there is no such file")
    check_not_lfs_pointer(file)
    with file.open("rb") as opened:
        head = opened.read(4)
    try:
        if head == _HDF5:
            return _read_hdf5(file)
        if file.suffix == ".keras":
            with zipfile.ZipFile(file) as archive:
                return _read_hdf5(io.BytesIO(archive.read("model.weights.h5")))
        if file.suffix == ".safetensors":
            return _read_safetensors(file)
        if file.suffix in (".pth", ".pt", ".bin"):
            return _read_pickle(file)
    except CheckpointError:
        raise
    except Exception as error:  # Each library raises kinds of its own.
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(f"{file} cannot be read, is it damaged? {reason[0][:200]}") from error
    raise CheckpointError(f"{file} is of no known kind: expected .h5, .keras, .safetensors or .pth")


def _read_hdf5(file: Any) -> dict[str, np.ndarray]:
    h5py = _library("h5py")
    tensors: dict[str, np.ndarray] = {}

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and not name.startswith("optimizer"):
            tensors[name] = np.asarray(node)

    with h5py.File(file, "r") as opened:
        opened.visititems(visit)
    return tensors


def _read_safetensors(file: pathlib.Path) -> dict[str, np.ndarray]:
    return dict(_library("safetensors.numpy").load_file(str(file)))


def _read_pickle(file: pathlib.Path) -> dict[str, np.ndarray]:
    torch = _library("torch")
    state = torch.load(str(file), map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):
        state = state.get(key, state)
    return {name.removeprefix("module."): value.numpy() for name, value in state.items()}


def _library(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.split(".")[0]
        raise CheckpointError(
            f"reading this file needs {package}: pip install {package}"
        ) from error
