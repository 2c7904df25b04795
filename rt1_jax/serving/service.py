"""From one message to one reply: check, embed, step, answer. Knows nothing of sockets."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import rt1_jax
from rt1_jax.actions import ActionSpec
from rt1_jax.serving import protocol
from rt1_jax.serving.batching import Batcher
from rt1_jax.serving.embeddings import InstructionEmbedder
from rt1_jax.serving.image_sizes import ImageSizes
from rt1_jax.serving.metrics import Metrics
from rt1_jax.serving.observation import ObservationReader


@dataclasses.dataclass(frozen=True)
class Episode:
    """Where one robot is.

    Attributes:
      state: the policy's state, a batch of one; None before the first frame.
      steps: frames seen.
    """

    state: Any = None
    steps: int = 0


class PolicyService:
    """A policy, ready to answer messages of many robots.

    Args:
      policy: a `rt1_jax.Policy`.
      max_batch: the largest batch.
      max_image_sizes: how many frame sizes are served; that of the checkpoint is the first.
      image_keys: further keys under which the image may come.
      table: instructions whose embeddings are known already.
    """

    def __init__(
        self,
        policy: Any,
        *,
        max_batch: int,
        max_image_sizes: int = 4,
        image_keys: Sequence[str] = (),
        table: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        description = policy.description
        self.policy = policy
        self.metrics = Metrics()
        self.batcher = Batcher(policy, max_batch, self.metrics.batch)
        self._sizes = ImageSizes(self._warm_size, max_image_sizes)
        self._reader = ObservationReader(description.encoder.dimensions, image_keys)
        self.embedder = InstructionEmbedder(
            policy.embed, description.encoder, table, on_look=self.metrics.instruction
        )
        self._stopping = False

    async def warm(self) -> str | None:
        """Compiles every batch size for the checkpoint's frames, and loads its encoder.

        Returns:
          why instructions cannot be embedded here, or None.
        """
        await self._sizes.ready("image", self.policy.description.image_size)
        return await asyncio.get_running_loop().run_in_executor(None, self.embedder.warm)

    async def answer(self, episode: Episode, message: bytes) -> tuple[Episode, bytes]:
        """Serves one message.

        Returns:
          where the robot is now, and the packed reply.

        Raises:
          ProtocolError, ObservationError: it was refused; `episode` goes on as it was.
        """
        start = time.perf_counter()
        observation = self._reader.read(protocol.unpack(message))
        if observation.reset:
            episode = Episode()
        if observation.image is None:
            return episode, protocol.pack({"reset": True, "step": 0})
        image, embedding = observation.image, observation.embedding
        if embedding is None:
            assert observation.instruction is not None  # the reader sees to it
            embedding = await self.embedder(observation.instruction)
        await self._sizes.ready("image", (image.shape[0], image.shape[1]))
        result = await self.batcher.step(episode.state, image, embedding)
        episode = Episode(result.state, episode.steps + 1)
        spec = self.policy.action_spec
        fields = {
            name: np.asarray(result.action[name], np.float32)[None] for name in spec.field_names
        }
        total = time.perf_counter() - start
        self.metrics.queue_seconds.observe(result.queue_seconds)
        self.metrics.request_seconds.observe(total)
        infer = 1e3 * result.infer_seconds
        return episode, protocol.pack(
            {
                "actions": flat_action(spec, fields),
                "fields": fields,
                "step": episode.steps,
                "policy_timing": {"infer_ms": infer},
                "server_timing": {
                    "queue_ms": 1e3 * result.queue_seconds,
                    "infer_ms": infer,
                    "total_ms": 1e3 * total,
                    "batch_size": result.batch_size,
                },
            }
        )

    def stop(self) -> None:
        """Lets go of compilations that have not begun."""
        self._stopping = True

    def close(self) -> None:
        """Finishes what runs and ends all threads. Blocks."""
        self.stop()
        self._sizes.close()
        self.embedder.close()
        self.batcher.close()

    def metadata(self) -> dict[str, Any]:
        """What a client is told when it connects."""
        description, spec = self.policy.description, self.policy.action_spec
        height, width = description.image_size
        return {
            "protocol_version": protocol.VERSION,
            "server": "rt1_jax",
            "version": rt1_jax.__version__,
            "architecture": description.architecture,
            "model": description.model,
            "checkpoint_step": description.step,
            "history_frames": self.policy.config.frames,
            "control_rate_hz": description.frame_rate or None,
            "image": {"height": height, "width": width, "dtype": "uint8", "channels": "RGB"},
            "encoder": {
                "name": description.encoder.name,
                "dimensions": description.encoder.dimensions,
                "embeds_instructions": self.embedder.unavailable is None,
            },
            "action_spec": spec.to_json(),
            "action_names": action_names(spec),
            "observation_keys": list(self._reader.keys),
            "max_batch": self.batcher.buckets[-1],
        }

    def _warm_size(self, size: tuple[int, int]) -> None:
        self.batcher.warm(size, go_on=lambda: not self._stopping)


def action_names(spec: ActionSpec) -> list[str]:
    """A name for each number of the flat action: `world_vector/0`, in the spec's order."""
    return [f"{field.name}/{i}" for field in spec.fields for i in range(field.size)]


def flat_action(spec: ActionSpec, action: Mapping[str, np.ndarray]) -> np.ndarray:
    """{field: [..., size]} -> float32 [..., sum of sizes], in the spec's order."""
    return np.concatenate([np.asarray(action[f], np.float32) for f in spec.field_names], axis=-1)
