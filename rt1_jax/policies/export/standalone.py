"""Loads and steps an exported RT-1 policy with nothing but jax and numpy.

This file lies beside the exported programs, and is all the code that they need:

    import sys
    sys.path.insert(0, "DIRECTORY")
    from policy import ExportedPolicy

    policy = ExportedPolicy()
    state = policy.initial_state(batch_size=1)
    state, action = policy.step(state, images, embeddings)

Images are uint8 [b, h, w, 3] of the size in `policy.config["inputs"]`, embeddings float32 [b, d] of
the sentence encoder in `policy.config["policy"]["encoder"]`. Actions are {field: [b, size]}, with
bounds and units in `policy.config["actions"]`.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import zipfile
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export


class ExportedPolicyError(ValueError):
    """A directory that cannot be used here, or an input that the policy cannot take."""


class ExportedPolicy:
    """A policy as it was exported.

    Attributes:
      config: the content of config.json.
      device: where it runs.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] = pathlib.Path(__file__).parent,
        device: jax.Device | None = None,
    ) -> None:
        """Reads a directory.

        Args:
          directory: with config.json and what it names; that of this file by default.
          device: where to run; JAX's default device if None.

        Raises:
          ExportedPolicyError: something is missing, damaged, or made for another platform or JAX.
        """
        root = pathlib.Path(directory)
        self.config = _read_config(root)
        self.device = device or jax.devices()[0]
        self._programs = {
            name: jax.jit(_read_program(root, name, self.config, self.device).call)
            for name in self.config["programs"]
        }
        # On the device once and for all: results are committed to it, and inputs that were not
        # would be compiled for once more.
        self._weights = jax.device_put(_read_weights(root, self.config), self.device)
        self._reset = jax.jit(self._where_fresh)

    def initial_state(self, batch_size: int = 1) -> dict[str, jax.Array]:
        """The state before an episode's first frame: {name: [batch_size, ...]}."""
        state = {
            name: np.full((batch_size, *leaf["shape"][1:]), leaf["initial"], _dtype(leaf["dtype"]))
            for name, leaf in self.config["state"].items()
        }
        return jax.device_put(state, self.device)

    def reset(self, state: dict[str, Any], mask: Any) -> dict[str, jax.Array]:
        """Starts new episodes for the robots where `mask`, bool [b], is true."""
        batch = self._check_state(state)
        mask = np.asarray(mask)
        if mask.dtype != bool or mask.shape != (batch,):
            raise ExportedPolicyError(f"mask is {mask.dtype} {mask.shape}, expected bool [{batch}]")
        return self._reset(state, mask)

    def step(
        self, state: dict[str, Any], images: Any, embeddings: Any
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """One control step of b robots, which may be at different steps of their episodes.

        Args:
          state: from `initial_state`, `reset` or the step before.
          images: uint8 [b, h, w, 3], the newest frames.
          embeddings: float32 [b, d], the instructions.

        Returns:
          the next state and {field: [b, size]}.

        Raises:
          ExportedPolicyError: an input of another shape, dtype or batch, or not finite.
        """
        state, action, _ = self.step_with_logits(state, images, embeddings)
        return state, action

    def step_with_logits(
        self, state: dict[str, Any], images: Any, embeddings: Any
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array], jax.Array]:
        """As `step`, and float32 logits [b, tokens, bins] (or [b, outputs]: see the config)."""
        batch = self._check_state(state)
        images, embeddings = self._check_inputs(images, embeddings, (batch,), batch)
        return self._programs["step"](self._weights, state, images, embeddings)

    def logits(self, images: Any, embeddings: Any) -> jax.Array:
        """Logits of whole windows, each step's from the frames up to it.

        Args:
          images: uint8 [b, t, h, w, 3], oldest first, t at most config["frames"].
          embeddings: float32 [b, d], one instruction a window.

        Returns:
          float32 [b, t, tokens, bins] (or [b, t, outputs]).
        """
        images, frames = np.asarray(images), self.config["frames"]
        if images.ndim != 5 or not 1 <= images.shape[1] <= frames or not len(images):
            raise ExportedPolicyError(
                f"images: got shape {images.shape}, expected [b, t, h, w, 3] with t in 1..{frames}"
            )
        batch, t = images.shape[:2]
        images, embeddings = self._check_inputs(images, embeddings, (batch, t), batch)
        # Nothing that comes later is looked at, so that any frames can fill the window.
        images = np.pad(images, [(0, 0), (0, frames - t)] + [(0, 0)] * 3)
        return self._programs["logits"](self._weights, images, embeddings)[:, :t]

    def _where_fresh(self, state: dict[str, Any], mask: Any) -> dict[str, Any]:
        return {
            name: jnp.where(
                mask.reshape(-1, *(1,) * (x.ndim - 1)), self.config["state"][name]["initial"], x
            ).astype(x.dtype)
            for name, x in state.items()
        }

    def _check_state(self, state: dict[str, Any]) -> int:
        """The batch size of a state that fits."""
        leaves = self.config["state"]
        if not isinstance(state, dict) or set(state) != set(leaves):
            found = sorted(state) if isinstance(state, dict) else type(state).__name__
            raise ExportedPolicyError(f"state has {found}, expected a dict of {sorted(leaves)}")
        batch = np.shape(state[next(iter(leaves))])[:1]
        for name, leaf in leaves.items():
            expected = (*batch, *leaf["shape"][1:])
            _check(f"state {name!r}", state[name], leaf["dtype"], expected)
        if batch == (0,):
            raise ExportedPolicyError("state is of no robot")
        return int(batch[0])

    def _check_inputs(
        self, images: Any, embeddings: Any, lead: tuple[int, ...], batch: int
    ) -> tuple[np.ndarray, np.ndarray]:
        inputs = self.config["inputs"]
        images, embeddings = np.asarray(images), np.asarray(embeddings, np.float32)
        _check("images", images, "uint8", (*lead, *inputs["images"]["shape"][1:]))
        _check("embeddings", embeddings, "float32", (batch, *inputs["embeddings"]["shape"][1:]))
        if not np.isfinite(embeddings).all():
            raise ExportedPolicyError("embeddings: holds a value that is not finite")
        return images, embeddings


def _check(what: str, array: Any, dtype: str, shape: tuple[int, ...]) -> None:
    if array.dtype != _dtype(dtype) or tuple(array.shape) != shape:
        raise ExportedPolicyError(
            f"{what}: got {array.dtype} {list(array.shape)}, expected {dtype} {list(shape)}"
        )


def _read_config(root: pathlib.Path) -> dict[str, Any]:
    path = root / "config.json"
    try:
        config = json.loads(path.read_text())
    except OSError as error:
        raise ExportedPolicyError(f"{path} cannot be read ({error}): export again") from error
    except ValueError as error:
        raise ExportedPolicyError(f"{path} is not JSON ({error}): export again") from error
    what = [config.get(key) for key in ("format", "version", "kind")] if config else []
    if what != ["rt1_jax_export", 1, "stablehlo"]:
        raise ExportedPolicyError(
            f"{path}: format, version and kind are {what}, this file reads "
            "['rt1_jax_export', 1, 'stablehlo']: use the policy.py of that directory"
        )
    keys = {"inputs", "state", "actions", "frames", "programs", "weights", "libraries"}
    if missing := sorted(keys - set(config)):
        raise ExportedPolicyError(f"{path} lacks {missing[0]!r}: export again")
    return config


def _read_program(
    root: pathlib.Path, name: str, config: dict[str, Any], device: jax.Device
) -> export.Exported:
    entry = config["programs"][name]
    path, platforms = root / entry["file"], entry["platforms"]
    platform = {"gpu": "cuda"}.get(device.platform, device.platform)
    if platform == "cuda" and "rocm" in str(getattr(device.client, "platform_version", "")).lower():
        platform = "rocm"
    if platform not in platforms:
        raise ExportedPolicyError(
            f"{path} was made for {', '.join(platforms)}, and this is {platform}: export again "
            f"with --platforms={','.join([*platforms, platform])}, or set JAX_PLATFORMS"
        )
    version = entry["calling_convention_version"]
    low = export.minimum_supported_calling_convention_version
    high = export.maximum_supported_calling_convention_version
    made = f"{path} was made by jax {config['libraries'].get('jax')}"
    if not low <= version <= high:
        raise ExportedPolicyError(
            f"{made} with calling convention {version}; jax {jax.__version__} here reads {low} to "
            f"{high}: " + ("install a newer jax" if version > high else "export again")
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ExportedPolicyError(f"{path} cannot be read ({error}): export again") from error
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise ExportedPolicyError(f"{path} is damaged (its SHA-256 is not config.json's)")
    try:
        return export.deserialize(bytearray(data))
    except Exception as error:  # whatever another JAX makes of it
        raise ExportedPolicyError(
            f"{made}; jax {jax.__version__} here cannot read it ({error}): install that jax, or "
            "export again with this one"
        ) from error


def _read_weights(root: pathlib.Path, config: dict[str, Any]) -> dict[str, np.ndarray]:
    path, tensors = root / config["weights"]["file"], config["weights"]["tensors"]
    try:
        archive = np.load(path, allow_pickle=False)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ExportedPolicyError(f"{path} cannot be read ({error}): export again") from error
    with archive:
        if wrong := sorted(set(archive.files) ^ set(tensors)):
            raise ExportedPolicyError(
                f"{path} and config.json disagree on {len(wrong)} arrays, {wrong[0]!r} first: they "
                "are of different exports"
            )
        weights = {}
        for name, tensor in tensors.items():
            try:
                array = archive[name]
            except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
                raise ExportedPolicyError(f"{path} is damaged in {name!r} ({error})") from error
            if array.dtype.kind == "V":  # how NumPy reads types that it does not know, as bfloat16
                array = array.view(_dtype(tensor["dtype"]))
            _check(f"{path}, {name!r}", array, tensor["dtype"], tuple(tensor["shape"]))
            weights[name] = array
    return weights


def _dtype(name: str) -> Any:
    return jnp.dtype(name)
