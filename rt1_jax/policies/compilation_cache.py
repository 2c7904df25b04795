"""What XLA compiled, kept on disk, so that the next process finds it."""

from __future__ import annotations

import os
import pathlib


def use_compilation_cache(directory: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """Makes JAX keep compiled programs, for this whole process; gives the directory.

    Args:
      directory: made if missing. By default what JAX is set to (``JAX_COMPILATION_CACHE_DIR``), or
        else ``$XDG_CACHE_HOME/rt1_jax/compiled`` (``~/.cache`` without that variable).
    """
    import jax

    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    given = directory or jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    path = pathlib.Path(given or pathlib.Path(home) / "rt1_jax" / "compiled")
    path.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(path))
    return path
