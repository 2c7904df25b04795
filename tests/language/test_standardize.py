import itertools

import numpy as np
import pytest

from rt1_jax.language import EmbeddingStatistics

OBJECTS = "abcdefgh"


@pytest.fixture(scope="module")
def sentences():
    """Every "VERB X near Y", and embeddings in which X and Y are a small part of what varies."""
    texts = [
        f"{verb} {x} near {y}"
        for verb in ("move", "bring", "put", "place")
        for x, y in itertools.permutations(OBJECTS, 2)
    ]
    rng = np.random.default_rng(0)
    target, reference = rng.normal(size=(2, len(OBJECTS), 64))
    loud = rng.normal(size=(len(texts), 20)) @ rng.normal(size=(20, 64))
    words = [
        target[OBJECTS.index(text.split()[1])] + reference[OBJECTS.index(text.split()[3])]
        for text in texts
    ]
    noise = rng.normal(size=(len(texts), 64))
    return texts, (5 + np.array(words) + 3 * loud + 0.2 * noise).astype(np.float32)


def test_components_tell_words_of_sentences_that_they_were_not_fitted_to(sentences):
    texts, embeddings = sentences
    order = np.random.default_rng(1).permutation(len(texts))
    fit, other = order[:168], order[168:]
    statistics = EmbeddingStatistics.of(embeddings[fit], [texts[i] for i in fit], 16)
    features = np.c_[statistics.apply(embeddings), np.ones(len(texts))]
    for word in (1, 3):
        labels = np.array([OBJECTS.index(text.split()[word]) for text in texts])
        weights = np.linalg.lstsq(features[fit], np.eye(8)[labels[fit]], rcond=None)[0]
        right = ((features[other] @ weights).argmax(1) == labels[other]).mean()
        # As many principal components tell hardly more than chance: they hold what is loud.
        assert right >= 0.9


def test_scale_of_the_components(sentences):
    texts, embeddings = sentences
    statistics = EmbeddingStatistics.of(embeddings, texts, 6)
    again = EmbeddingStatistics.from_json(statistics.to_json())
    found = again.apply(embeddings)
    assert found.shape == (len(texts), 6)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(np.square(found).sum(-1).mean(), 4, rtol=0.02)
    covariance = np.cov(found.T)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=2e-2)
    assert (np.diff(np.diag(covariance)) <= 1e-6).all()
    # A sentence far outside is held within the clip, however far it is.
    far = [again.apply(embeddings[0] + distance) for distance in (1e6, 1e9)]
    np.testing.assert_array_equal(*far)


def test_the_same_sentences_in_another_order_give_the_same_components(sentences):
    texts, embeddings = sentences
    order = np.random.default_rng(2).permutation(len(texts))
    one = EmbeddingStatistics.of(embeddings, texts, 6)
    two = EmbeddingStatistics.of(embeddings[order], [texts[i] for i in order], 6)
    np.testing.assert_allclose(one.projection, two.projection, atol=1e-4)


def test_bad_statistics_are_refused():
    embeddings = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
    with pytest.raises(ValueError, match=r"words of 2 instructions vary in 1 ways.*2 embedding"):
        EmbeddingStatistics.of(embeddings, ["move a", "move b"], 2)
    with pytest.raises(ValueError, match=r"\[3, dimensions\].*\(2, 8\)"):
        EmbeddingStatistics.of(embeddings, ["a", "b", "c"], 1)
    with pytest.raises(ValueError, match="positive std"):
        EmbeddingStatistics.from_json(
            {"mean": [0.0, 0.0], "std": [1.0, 0.0], "projection": [[1.0], [1.0]]}
        )
    with pytest.raises(ValueError, match="projection"):
        EmbeddingStatistics.from_json({"mean": [0.0], "std": [1.0]})
