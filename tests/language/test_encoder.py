import dataclasses

import numpy as np
import pytest
import small

from rt1_jax.checkpoints.loaded import RT1_ENCODER
from rt1_jax.language import (
    CHECK_SENTENCE,
    EncoderIdentity,
    EncoderMismatchError,
    check_same_encoder,
    load_encoder,
)
from rt1_jax.language.tfhub_use import cached_module


@pytest.fixture(scope="module")
def encoder():
    return load_encoder()


def test_the_packaged_encoder_knows_meaning(encoder):
    vectors = encoder.embed(
        ["pick up the red block", "grab the red block", "how do I cook rice for six people?"]
    )
    assert vectors.shape == (3, 512)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-4)
    near, far = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    assert near > 0.7
    assert far < 0.4


def test_a_vector_does_not_depend_on_its_neighbours(encoder):
    alone = encoder.embed(["open the drawer"])[0]
    beside = encoder.embed(["a much longer sentence that needs padding", "open the drawer"])[1]
    np.testing.assert_array_equal(alone, beside)


def test_identity_round_trip(encoder):
    again = EncoderIdentity.from_json(encoder.identity.to_json())
    np.testing.assert_allclose(again.check_embedding, encoder.identity.check_embedding, atol=1e-6)
    assert load_encoder(again).identity.name == again.name


def test_another_encoder_is_refused_unless_overridden(encoder):
    other = small.HashEncoder().identity
    recorded = dataclasses.replace(encoder.identity, check_embedding=other.check_embedding)
    with pytest.raises(EncoderMismatchError, match="cosine"):
        load_encoder(recorded)
    assert load_encoder(recorded, allow_mismatch=True).identity == encoder.identity


def test_other_dimensions_are_refused(encoder):
    with pytest.raises(EncoderMismatchError, match="dimensions"):
        check_same_encoder(EncoderIdentity("x", 768), encoder.identity)
    with pytest.raises(EncoderMismatchError, match="dimensions") as error:
        load_encoder(dataclasses.replace(encoder.identity, dimensions=768))
    assert "allow_mismatch" not in str(error.value)


def test_stored_embeddings_are_compared_by_name():
    check_same_encoder(EncoderIdentity("stored:a"), EncoderIdentity("stored:a"))
    with pytest.raises(EncoderMismatchError, match="stored:a"):
        check_same_encoder(EncoderIdentity("stored:a"), EncoderIdentity("stored:b"))


@pytest.mark.parametrize("name", ["use", "stored:fractal"])
def test_unknown_names(name):
    with pytest.raises(ValueError, match=name):
        load_encoder(name)


def test_empty_instructions_are_refused(encoder):
    with pytest.raises(ValueError, match="non-empty"):
        encoder.embed([""])


@pytest.fixture
def save_module():
    """Saves a small module of the kind that TF-Hub has: strings [n] -> float32 [n, 512]."""
    tf = pytest.importorskip("tensorflow")

    class Lengths(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def __call__(self, texts):
            lengths = tf.cast(tf.strings.length(texts), tf.float32)
            return tf.concat([lengths[:, None], tf.ones([tf.size(texts), 511])], -1)

    return lambda path: tf.saved_model.save(Lengths(), str(path))


def test_a_tf_hub_module_from_a_local_directory(tmp_path, save_module):
    path = tmp_path / "module"
    save_module(path)
    encoder = load_encoder(f"tfhub:{path}")
    np.testing.assert_array_equal(encoder.embed(["four", "seventy"])[:, 0], [4, 7])
    assert encoder.identity.dimensions == 512
    assert encoder.identity.check_embedding[0] == len(CHECK_SENTENCE)
    assert load_encoder(encoder.identity).identity == encoder.identity


def test_the_encoder_of_the_released_checkpoints_without_a_network(
    tmp_path, monkeypatch, save_module
):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    url = RT1_ENCODER.name.removeprefix("tfhub:")
    assert cached_module(url) == f"{tmp_path}/c9fe785512ca4a1b179831acb18a0c6bfba603dd"
    save_module(cached_module(url))
    encoder = load_encoder(RT1_ENCODER)
    assert encoder.embed(["four"])[0, 0] == 4
    # Data made with it are the released checkpoints' by name, and carry a vector from now on.
    assert encoder.identity.name == RT1_ENCODER.name
    check_same_encoder(RT1_ENCODER, encoder.identity)
    other = dataclasses.replace(encoder.identity, check_embedding=(1.0, *[0.0] * 511))
    with pytest.raises(EncoderMismatchError, match="cosine .*allow_mismatch=True"):
        load_encoder(other)


def test_a_directory_is_not_taken_for_the_released_encoder(tmp_path, save_module):
    save_module(tmp_path / "module")
    encoder = load_encoder(f"tfhub:{tmp_path / 'module'}")
    with pytest.raises(EncoderMismatchError, match="TF-Hub's cache takes a local copy") as error:
        check_same_encoder(RT1_ENCODER, encoder.identity)
    assert "allow_mismatch" not in str(error.value)


def test_a_module_that_cannot_be_downloaded_says_where_it_may_lie(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow")
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    url = "http://127.0.0.1:9/module"  # refused at once
    with pytest.raises(ValueError, match=f"{cached_module(url)}, or set TFHUB_CACHE_DIR"):
        load_encoder(f"tfhub:{url}")


def test_a_missing_tf_hub_module_is_named(tmp_path):
    pytest.importorskip("tensorflow")
    with pytest.raises(ValueError, match="nowhere.*expected a directory that holds a SavedModel"):
        load_encoder(f"tfhub:{tmp_path}/nowhere")
