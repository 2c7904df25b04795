"""TensorFlow's checkpoint files (an index and data shards), read through TensorFlow.

TensorFlow is not imported before one is read. It verifies the CRC32C that the index holds of
every tensor; this module turns what it says into errors that name the file and the tensor.
"""

from __future__ import annotations

import os
import pathlib
import re
from typing import Any

import numpy as np

from rt1_jax import host_tensorflow
from rt1_jax.checkpoints.native import CheckpointError

_LFS = b"version https://git-lfs.github.com/spec/"


class TFBundle:
    """The tensors of one checkpoint prefix.

    Attributes:
      prefix: path without ``.index`` and ``.data-00000-of-00001``.
      shapes: shape of every tensor by name.
    """

    def __init__(self, prefix: str | os.PathLike[str]) -> None:
        self.prefix = pathlib.Path(prefix)
        index = self.prefix.with_name(self.prefix.name + ".index")
        if not index.is_file():
            raise CheckpointError(
                f"{index} is missing: expected the index of a TensorFlow checkpoint"
            )
        check_not_lfs_pointer(index)
        tf = import_tensorflow()
        try:
            self._reader: Any = tf.train.load_checkpoint(str(self.prefix))
            shapes = self._reader.get_variable_to_shape_map()
        except Exception as error:  # TensorFlow raises many kinds, plain RuntimeError among them.
            raise CheckpointError(
                f"{index} is no readable index of a TensorFlow checkpoint: {_first_line(error)}"
            ) from error
        self.shapes: dict[str, tuple[int, ...]] = {
            name: tuple(shape) for name, shape in shapes.items()
        }

    def check_data(self) -> None:
        """Looks at the data files: present, and no git-lfs pointers.

        Raises:
          CheckpointError: naming the file.
        """
        shards = sorted(self.prefix.parent.glob(f"{self.prefix.name}.data-*-of-*"))
        if not shards:
            raise CheckpointError(
                f"{self.prefix}.data-00000-of-00001 is missing: the index is there, the tensors' "
                "values are not"
            )
        total = int(shards[0].name.rpartition("-of-")[2])
        if len(shards) != total:
            raise CheckpointError(f"{self.prefix}: {len(shards)} of {total} data files are present")
        for shard in shards:
            check_not_lfs_pointer(shard)

    def read(self, name: str) -> np.ndarray:
        """A tensor's value, its CRC32C verified.

        Raises:
          KeyError: there is none of that name.
          CheckpointError: it cannot be read: truncated or damaged data.
        """
        if name not in self.shapes:
            raise KeyError(name)
        try:
            return np.asarray(self._reader.get_tensor(name))
        except Exception as error:  # See above.
            plain = name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")
            raise CheckpointError(
                f"{self.prefix}: tensor {plain!r} cannot be read, the data file is truncated or "
                f"damaged ({_first_line(error)}); fetch it again"
            ) from error


def check_not_lfs_pointer(path: pathlib.Path) -> None:
    """Raises CheckpointError where a git-lfs pointer stands in the place of a file."""
    with path.open("rb") as file:
        head = file.read(200)
    if head.startswith(_LFS):
        size = re.search(rb"\nsize (\d+)", head)
        expected = f"{int(size[1]):,} bytes" if size else "larger"
        raise CheckpointError(
            f"{path} is a git-lfs pointer, not the file itself, which should be {expected}: fetch "
            "it with `git lfs pull`"
        )


def import_tensorflow() -> Any:
    """`host_tensorflow.import_tensorflow`, for checkpoints.

    Raises:
      CheckpointError: it is not installed.
    """
    try:
        return host_tensorflow.import_tensorflow()
    except ImportError as error:
        raise CheckpointError(
            "reading and writing TensorFlow checkpoints needs TensorFlow: pip install tensorflow"
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
