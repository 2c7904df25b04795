"""Instruction -> sentence embedding: float32 [512], by an encoder whose identity is recorded.

The language encoder of RT-1 is frozen (paper, section 5.1), so embeddings are computed once, stored
with the data, and computed again only for new instructions at inference. Embeddings of two
encoders are different spaces: a policy trained with one is noise with the other. Each encoder
therefore carries an `EncoderIdentity` with the vector of one fixed sentence, which goes into every
dataset and every checkpoint and is checked whenever an encoder is loaded for it.
"""

from rt1_jax.language.encoder import (
    CHECK_SENTENCE,
    EncoderIdentity,
    EncoderMismatchError,
    SentenceEncoder,
    check_same_encoder,
    load_encoder,
)
from rt1_jax.language.standardize import EmbeddingStatistics

__all__ = [
    "CHECK_SENTENCE",
    "EmbeddingStatistics",
    "EncoderIdentity",
    "EncoderMismatchError",
    "SentenceEncoder",
    "check_same_encoder",
    "load_encoder",
]
