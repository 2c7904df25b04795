import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rt1_jax.serving.observation import MAX_SIDE, ObservationError, ObservationReader

READER = ObservationReader(dimensions=4, image_keys=["observation/left"])
IMAGE = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
EMBEDDING = np.arange(4, dtype=np.float32)


def good(**changes):
    message = {"image": IMAGE, "instruction": "pick", **changes}
    return {key: value for key, value in message.items() if value is not ...}


@pytest.mark.parametrize("image", ["image", "observation/image", "observation/left"])
@pytest.mark.parametrize("instruction", ["instruction", "prompt"])
def test_every_name_of_image_and_instruction(image, instruction):
    read = READER.read({image: IMAGE, instruction: "pick", "observation/state": np.zeros(7)})
    np.testing.assert_array_equal(read.image, IMAGE)
    assert (read.instruction, read.embedding, read.reset) == ("pick", None, False)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_embeddings_become_float32(dtype):
    read = READER.read(good(instruction=..., embedding=EMBEDDING.astype(dtype), reset=True))
    assert read.embedding.dtype == np.float32
    np.testing.assert_array_equal(read.embedding, EMBEDDING)
    assert read.reset
    assert read.instruction is None


@pytest.mark.parametrize("reset", [True, np.bool_(True)])
def test_a_reset_may_come_alone(reset):
    read = READER.read({"reset": reset})
    assert read.image is None
    assert read.reset


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"image": ...}, "image", "missing"),
        ({"image": None}, "image", "got None"),
        ({"image": "a"}, "image", "uint8 [h, w, 3], RGB in 0..255, got str"),
        ({"image": [[0, 0, 0]]}, "image", "got list"),
        ({"image": IMAGE.astype(np.float32)}, "image", "got float32 [2, 4, 3]"),
        ({"image": IMAGE.astype(np.int8)}, "image", "got int8"),
        ({"image": IMAGE[None]}, "image", "got uint8 [1, 2, 4, 3]"),
        ({"image": IMAGE[..., :1]}, "image", "got uint8 [2, 4, 1]"),
        ({"image": IMAGE.transpose(2, 0, 1)}, "image", "got uint8 [3, 2, 4]"),
        ({"image": IMAGE[:0]}, "image", "h and w in 1.."),
        ({"image": np.zeros((1, MAX_SIDE + 1, 3), np.uint8)}, "image", f"1..{MAX_SIDE}"),
        ({"observation/image": IMAGE}, "observation/image", "given beside 'image'"),
        ({"instruction": ...}, "instruction", "missing"),
        ({"instruction": 3}, "instruction", "expected text, got int"),
        ({"instruction": b"pick"}, "instruction", "got bytes"),
        ({"instruction": ["pick"]}, "instruction", "got list"),
        ({"instruction": " \n"}, "instruction", "white space"),
        ({"instruction": "x" * 1001}, "instruction", "got 1001"),
        ({"prompt": "pick"}, "prompt", "given beside 'instruction'"),
        ({"embedding": EMBEDDING}, "embedding", "given beside 'instruction'"),
        ({"instruction": ..., "embedding": EMBEDDING[:3]}, "embedding", "got float32 [3]"),
        ({"instruction": ..., "embedding": EMBEDDING[None]}, "embedding", "got float32 [1, 4]"),
        ({"instruction": ..., "embedding": EMBEDDING.astype(int)}, "embedding", "got int64 [4]"),
        ({"instruction": ..., "embedding": [0.0] * 4}, "embedding", "got list"),
        ({"instruction": ..., "embedding": EMBEDDING * np.nan}, "embedding", "not finite"),
        ({"instruction": ..., "embedding": EMBEDDING + np.inf}, "embedding", "not finite"),
        ({"instruction": ..., "embedding": np.full(4, 1e300)}, "embedding", "magnitude 1e+300"),
        ({"reset": 1}, "reset", "expected a boolean, got int"),
        ({"reset": "yes"}, "reset", "got str"),
        ({"imgae": IMAGE}, "imgae", "unknown key"),
    ],
)
def test_what_is_wrong_is_named(changes, field, words):
    with pytest.raises(ObservationError, match=f"^{re.escape(field)}: ") as caught:
        READER.read(good(**changes))
    assert caught.value.field == field
    assert words in str(caught.value)


@pytest.mark.parametrize("message", [None, 3, "reset", [], IMAGE, b"x"])
def test_a_message_is_a_map(message):
    with pytest.raises(ObservationError, match="^message: expected a map"):
        READER.read(message)


LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary())
KEYS = st.one_of(st.sampled_from(READER.keys), st.text())


@settings(deadline=None, max_examples=50)
@given(st.recursive(LEAVES, lambda x: st.lists(x) | st.dictionaries(KEYS, x), max_leaves=6))
def test_junk_is_refused_and_nothing_else(message):
    try:
        observation = READER.read(message)
    except ObservationError:
        return
    assert observation.reset  # the one thing that may come without an array
