"""Checkpoints of a run, written while it goes on."""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rt1_jax.checkpoints import native


class CheckpointSaver:
    """Writes native checkpoints in the background, one at a time.

    The state is copied off the devices before `save` returns; it may be donated after that. What
    is on the disk appears under its name when all of it is there, from all processes.

    Args:
      finished: called with the directory once it is whole, on process 0, in the saver's thread.
    """

    def __init__(self, finished: Callable[[pathlib.Path], None] = lambda path: None) -> None:
        self._finished = finished
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._path: pathlib.Path | None = None

    def save(
        self,
        directory: pathlib.Path,
        description: native.PolicyDescription,
        variables: Any,
        training: Any,
        iterator: dict[str, Any],
    ) -> None:
        """Begins to write; waits for the one before. Every process calls it.

        Args:
          directory: must not exist yet.
          description, variables, training, iterator: see `native.save_checkpoint`.

        Raises:
          CheckpointError: the one before could not be written.
        """
        self.wait()
        self._path = directory
        try:
            writing = native.begin_checkpoint(directory, variables, training)
        except Exception as error:  # told to whoever waits, as what goes wrong later
            self._error = error
            self._discard()
            return
        config = native.checkpoint_config(description, variables)

        def finish() -> None:
            try:
                writing.finish(config, iterator)
            except Exception as error:  # told to whoever waits
                self._error = error
                self._discard()
                return
            try:
                if jax.process_index() == 0:
                    self._finished(directory)
            except Exception as error:  # this checkpoint is there all the same
                print(f"\nafter checkpoint {directory}: {error}", file=sys.stderr, flush=True)

        self._thread = threading.Thread(target=finish, name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Returns when nothing is being written.

        Raises:
          CheckpointError: it could not be written, and is not there.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise native.CheckpointError(
                f"checkpoint {self._path} could not be written: {reason}"
            ) from error

    def _discard(self) -> None:
        if self._path is not None and jax.process_index() == 0:
            shutil.rmtree(native.partial_name(self._path), ignore_errors=True)


def detached(tree: Any) -> Any:
    """Arrays that a later step cannot write over.

    On CPU the "copy to the host" that is written is the device's own buffer.
    """
    return jax.tree.map(
        lambda x: jnp.copy(x) if next(iter(x.devices())).platform == "cpu" else x, tree
    )


def remove_leftovers(root: pathlib.Path) -> None:
    """Removes what an interrupted save or removal has left in a run's `checkpoints/`."""
    directory = root / "checkpoints"
    for path in directory.glob(".*.partial*") if directory.is_dir() else []:
        shutil.rmtree(path, ignore_errors=True)
    for path in directory.glob(".*.removed") if directory.is_dir() else []:
        shutil.rmtree(path, ignore_errors=True)


def hide_and_remove(path: pathlib.Path) -> None:
    """Removes a checkpoint; while it is being removed it does not look whole."""
    hidden = path.with_name(f".{path.name}.removed")
    os.replace(path, hidden)
    shutil.rmtree(hidden)
