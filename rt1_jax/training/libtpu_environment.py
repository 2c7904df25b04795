"""libtpu as a compiler alone. Imports no JAX, so that it can come before it."""

from __future__ import annotations

import os


def set_libtpu_environment() -> None:
    """Keeps libtpu from looking for this machine's TPU and for the server that describes it.

    It asks, and complains, when JAX is imported: of use before that, and good enough after it.
    """
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # nothing is run on a TPU
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
