"""TensorFlow as a reader and writer of files: quiet, and on the host alone."""

from __future__ import annotations

import contextlib
import os
from typing import Any


def import_tensorflow() -> Any:
    """TensorFlow, quiet and without a GPU: accelerators are JAX's.

    Raises:
      ImportError: it is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    # An already initialised TensorFlow refuses: then the caller has decided about devices.
    with contextlib.suppress(RuntimeError):
        tf.config.set_visible_devices([], "GPU")
    return tf
