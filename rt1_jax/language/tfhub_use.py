"""Universal Sentence Encoder from TF-Hub: the encoder of the released RT-1 data.

`https://tfhub.dev/google/universal-sentence-encoder-large/5` is the version whose vectors the
fractal dataset holds; other versions give other vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rt1_jax.host_tensorflow import import_tensorflow
from rt1_jax.language.encoder import CHECK_SENTENCE, EncoderIdentity

RT1_HANDLE = "https://tfhub.dev/google/universal-sentence-encoder-large/5"


class TFHubUSE:
    """Embeds instructions with a TF-Hub module.

    Args:
      handle: a TF-Hub URL, or a local directory that holds the module as a SavedModel whose default
        call maps strings [n] to float32 [n, dimensions] (a dict with key `outputs` or `default`
        is understood too).

    Raises:
      ValueError: the module cannot be loaded, or gives something other than vectors.
    """

    def __init__(self, handle: str = RT1_HANDLE) -> None:
        self._tf = import_tensorflow()
        import tensorflow_hub as hub

        self._handle = handle
        try:
            self._module = hub.load(handle)
        except Exception as error:
            raise ValueError(
                f"cannot load TF-Hub module {handle!r} ({type(error).__name__}: "
                f"{str(error).splitlines()[0] if str(error) else ''}); download it once and give "
                "its directory: 'tfhub:/path/to/module'"
            ) from error
        check = self.embed([CHECK_SENTENCE])[0]
        self.identity = EncoderIdentity(
            f"tfhub:{handle}", int(check.shape[0]), tuple(float(x) for x in check)
        )

    def embed(self, instructions: Sequence[str]) -> np.ndarray:
        """Embeds a list of n instructions -> float32 [n, dimensions]."""
        texts = list(instructions)
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise ValueError("instructions must be non-empty strings")
        outputs = self._module(self._tf.constant(texts, self._tf.string))
        if isinstance(outputs, dict):
            outputs = outputs.get("outputs", outputs.get("default"))
        vectors = np.asarray(outputs, np.float32)
        if vectors.ndim != 2 or vectors.shape[0] != len(texts):
            raise ValueError(
                f"TF-Hub module {self._handle!r} gave shape {vectors.shape} for {len(texts)} "
                f"instructions, expected [{len(texts)}, dimensions]"
            )
        return vectors
