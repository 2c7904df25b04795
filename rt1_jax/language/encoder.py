"""What a sentence encoder is, which one it is, and how one is found again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

CHECK_SENTENCE = "pick up the red block and place it into the bowl"
# Float noise between machines and BLAS builds is below 1e-4; two encoders differ by far more.
CHECK_MIN_COSINE = 0.999
DEFAULT_ENCODER = "multilingual-use-v3"


class EncoderMismatchError(ValueError):
    """An encoder gives other vectors than the one that a dataset or checkpoint was made with."""


@dataclasses.dataclass(frozen=True)
class EncoderIdentity:
    """Which encoder made a set of embeddings.

    Attributes:
      name: `multilingual-use-v3`, `tfhub:URL_OR_DIRECTORY` or `stored:NAME`.
      dimensions: length of an embedding (512 for every Universal Sentence Encoder).
      check_embedding: the embedding of `CHECK_SENTENCE`, or () where the encoder cannot embed
        (embeddings that came with the data).
    """

    name: str
    dimensions: int = 512
    check_embedding: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "dimensions": self.dimensions,
            "check_sentence": CHECK_SENTENCE,
            "check_embedding": [round(x, 6) for x in self.check_embedding],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> EncoderIdentity:
        missing = {"name", "dimensions", "check_embedding"} - set(data)
        if missing:
            raise ValueError(f"encoder identity lacks {sorted(missing)}")
        return cls(data["name"], int(data["dimensions"]), tuple(data["check_embedding"]))


class SentenceEncoder(Protocol):
    """Anything that embeds instructions."""

    identity: EncoderIdentity

    def embed(self, instructions: Sequence[str]) -> np.ndarray:
        """Embeds instructions: list of n strings -> float32 [n, dimensions]."""
        ...


def load_encoder(
    name: str | EncoderIdentity = DEFAULT_ENCODER, *, allow_mismatch: bool = False
) -> SentenceEncoder:
    """Finds an encoder by name, or the encoder that an identity describes.

    Given an identity, the encoder's vector of `CHECK_SENTENCE` is compared with the recorded one.

    Raises:
      ValueError: unknown name.
      EncoderMismatchError: the encoder found is not the one recorded (unless `allow_mismatch`).
    """
    identity = name if isinstance(name, EncoderIdentity) else None
    wanted = name.name if isinstance(name, EncoderIdentity) else name
    encoder: SentenceEncoder
    if wanted == DEFAULT_ENCODER:
        from rt1_jax.language.multilingual_use import MultilingualUSE

        encoder = MultilingualUSE()
    elif wanted.startswith("tfhub:"):
        from rt1_jax.language.tfhub_use import TFHubUSE

        encoder = TFHubUSE(wanted.removeprefix("tfhub:"))
    elif wanted.startswith("stored:"):
        raise ValueError(
            f"encoder {wanted!r} is only a name for embeddings that came with the data: it cannot "
            "embed new instructions; pass embeddings, or name an encoder of the same space"
        )
    else:
        raise ValueError(
            f"unknown sentence encoder {wanted!r}: expected {DEFAULT_ENCODER!r}, or 'tfhub:' and a "
            "TF-Hub handle, URL or local directory"
        )
    if identity is not None and not allow_mismatch:
        try:
            check_same_encoder(identity, encoder.identity)
        except EncoderMismatchError as error:
            if identity.dimensions != encoder.identity.dimensions:
                raise  # no policy would take them
            raise EncoderMismatchError(
                f"{error}; if you know better, load_encoder(identity, allow_mismatch=True) gives "
                "it, and its embeddings can be handed to the policy"
            ) from error
    return encoder


def check_same_encoder(recorded: EncoderIdentity, found: EncoderIdentity) -> None:
    """Raises EncoderMismatchError unless both embed `CHECK_SENTENCE` to the same vector.

    Where one has no vector, as those of published checkpoints and data, names must be the same.
    Where both have one, names may differ: a TF-Hub URL and a directory may hold one module.
    """
    if recorded.dimensions != found.dimensions:
        raise EncoderMismatchError(
            f"embeddings have {found.dimensions} dimensions ({found.name}), "
            f"expected {recorded.dimensions} ({recorded.name})"
        )
    if not (recorded.check_embedding and found.check_embedding):
        if recorded.name != found.name:
            raise EncoderMismatchError(
                f"embeddings were made by {recorded.name!r}, not by {found.name!r}; embed by the "
                f"one that is on record, under that name{_copy_hint(recorded)}"
            )
        return
    a = np.asarray(recorded.check_embedding, np.float64)
    b = np.asarray(found.check_embedding, np.float64)
    cosine = float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
    if not cosine >= CHECK_MIN_COSINE:
        raise EncoderMismatchError(
            f"encoder {found.name!r} is not the one recorded ({recorded.name!r}): their vectors of "
            f"{CHECK_SENTENCE!r} have cosine {cosine:.3f}, expected at least {CHECK_MIN_COSINE}; "
            "use the recorded encoder"
        )


def _copy_hint(recorded: EncoderIdentity) -> str:
    if not recorded.name.startswith("tfhub:http"):
        return ""
    return " (TF-Hub's cache takes a local copy of the module: docs/fine_tuning.md)"
