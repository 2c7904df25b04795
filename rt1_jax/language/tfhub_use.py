"""Universal Sentence Encoder from TF-Hub: the encoder of the released RT-1 data.

`https://tfhub.dev/google/universal-sentence-encoder-large/5` is the version whose vectors the
fractal dataset holds; other versions give other vectors.

A module is best named by its URL, on a computer without a network, too: TF-Hub looks in its cache
before it downloads, so that a copy there is found under the name that datasets and checkpoints
have on record (`cached_module`). A directory is a name of its own.
"""

from __future__ import annotations

import hashlib
import os
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
            reason = str(error).splitlines()[0] if str(error) else ""
            raise ValueError(
                f"cannot load TF-Hub module {handle!r} ({type(error).__name__}: {reason}); "
                f"{_what_to_do(handle)}"
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


def cached_module(url: str) -> str:
    """The directory in which TF-Hub looks for a module before it downloads it.

    It is named by a hash of the URL, in `TFHUB_CACHE_DIR` or else in the directory of temporary
    files, and holds a SavedModel: `saved_model.pb`, `variables/` and perhaps `assets/`.
    """
    import_tensorflow()
    from tensorflow_hub import resolver

    name = hashlib.sha1(url.encode()).hexdigest()
    return os.path.join(resolver.tfhub_cache_dir(use_temp=True), name)  # may be a bucket's


def _what_to_do(handle: str) -> str:
    if handle.startswith(("http://", "https://")):
        return (
            "without a network, put the module's files (saved_model.pb, variables/, assets/) into "
            f"{cached_module(handle)}, or set TFHUB_CACHE_DIR to a cache that has them "
            "(docs/fine_tuning.md)"
        )
    return "expected a directory that holds a SavedModel: saved_model.pb and variables/"
