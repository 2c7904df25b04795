import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rt1_jax.language.words import word_features


def test_presence_and_place_of_words_that_vary():
    found = word_features(["take a", "take b", "take a b", "Take b a"])
    # a and b are each there or not, and early or late; "take" is always first and tells nothing.
    assert found.shape == (4, 4)
    a_there, b_there, a_place, b_place = found.T
    np.testing.assert_allclose(a_there, np.array([1, -3, 1, 1]) / np.sqrt(3))
    np.testing.assert_allclose(b_there, np.array([-3, 1, 1, 1]) / np.sqrt(3))
    # Places in the sentence: 1/2 for the last word, 0 in the middle and where it is missing.
    place = np.array([0.5, 0.0, 0.0, 0.5])
    np.testing.assert_allclose(a_place, (place - place.mean()) / place.std())
    assert b_place[3] < b_place[1]


def test_order_is_told():
    found = word_features(["move a near b", "move b near a", "move c near d", "move d near c"])
    there, place = np.split(np.abs(found[0] - found[1]), 2)
    np.testing.assert_allclose(there, 0)  # the same words
    assert (place > 0).tolist() == [True, True, False, False]  # a and b in other places


def test_rare_words_and_sentences_that_do_not_vary():
    common = [f"{verb} {noun}" for verb in ("grab", "take") for noun in "abcdefghij"]
    assert word_features([*common, "unheard of"]).shape[1] == word_features(common).shape[1]
    assert word_features(["open the drawer"]).shape == (1, 0)


@given(st.lists(st.text("abc ", min_size=1), min_size=1, max_size=30))
def test_columns_are_standardised(instructions):
    found = word_features(instructions)
    assert found.shape[0] == len(instructions)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(found.std(0), 1, atol=1e-9)
