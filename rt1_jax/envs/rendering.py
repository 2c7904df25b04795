"""Headless rendering: picks a GL back end before MuJoCo is imported, and draws frames.

EGL is preferred, OSMesa is taken where EGL is missing. An `MUJOCO_GL` set by the user wins.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import weakref
from typing import Any

import numpy as np

_PACKAGES = {
    "egl": "libegl1 libopengl0 libgl1-mesa-dri",
    "osmesa": "libosmesa6",
}


class RenderingError(RuntimeError):
    """No frame can be drawn; the message says what to install."""


def select_gl() -> str:
    """Sets `MUJOCO_GL` (to `egl` or `osmesa`) unless it is set already, and returns it.

    Must run before MuJoCo is first imported.

    Raises:
      RenderingError: neither library is installed.
    """
    chosen = os.environ.get("MUJOCO_GL", "")
    if not chosen:
        if _loadable("EGL") and _loadable("OpenGL"):
            chosen = "egl"
        elif _loadable("OSMesa"):
            chosen = "osmesa"
        else:
            raise RenderingError(
                "no GL library for headless rendering: on Debian run `apt-get install "
                f"{_PACKAGES['egl']}` (or `{_PACKAGES['osmesa']}`)"
            )
        os.environ["MUJOCO_GL"] = chosen
    # Software rendering of small frames is faster on the calling thread than with helpers, and
    # environments in parallel processes do not fight for cores.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    return chosen


def _loadable(name: str) -> bool:
    path = ctypes.util.find_library(name)
    if path is None:
        return False
    try:
        ctypes.CDLL(path)
    except OSError:
        return False
    return True


class FrameRenderer:
    """Draws one camera of a model into uint8 frames.

    Args:
      model: a `mujoco.MjModel`.
      height, width: of the frames, in pixels.
      camera: the camera's name.

    Raises:
      RenderingError: the GL context cannot be made.
    """

    def __init__(self, model: Any, height: int, width: int, camera: str = "front") -> None:
        chosen = select_gl()
        import mujoco

        from rt1_jax.envs.scene import HIDDEN_GROUP

        try:
            self._renderer = mujoco.Renderer(model, height, width, max_geom=400)
        except Exception as error:  # each back end raises its own kinds
            raise RenderingError(
                f"cannot make a GL context with MUJOCO_GL={chosen} ({_first_line(error)}): on "
                f"Debian run `apt-get install {_PACKAGES.get(chosen, _PACKAGES['egl'])}`"
            ) from error
        # Also runs when the program ends, while GL can still be called.
        self._release = weakref.finalize(self, self._renderer.close)
        self._camera = camera
        self._options = mujoco.MjvOption()
        self._options.geomgroup[HIDDEN_GROUP] = 0
        flags = self._renderer.scene.flags
        for flag in ("SHADOW", "REFLECTION", "SKYBOX", "HAZE", "FOG"):
            flags[getattr(mujoco.mjtRndFlag, f"mjRND_{flag}")] = False

    def render(self, data: Any) -> np.ndarray:
        """Draws the state: uint8 [height, width, 3]."""
        self._renderer.update_scene(data, self._camera, self._options)
        return self._renderer.render()

    def close(self) -> None:
        """Frees the GL context; safe to call twice."""
        self._release()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
