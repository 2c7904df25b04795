import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rt1_jax.language.words import word_features


def test_words_early_and_late():
    found = word_features(["take a", "take a b", "Take b now a", "take b"])
    # Half of four words: a early, a late, b early, b late, now. "take" is everywhere.
    columns = {tuple(column) for column in found.T.astype(int)}
    assert columns == {
        (1, 1, 0, 0),  # a early
        (0, 0, 1, 0),  # a late, and "now", which is late, too
        (0, 0, 1, 1),  # b early
        (0, 1, 0, 0),  # b late
    }
    assert found.shape == (4, 5)


def test_order_is_told():
    one, two = word_features(["move a near b", "move b near a"])
    assert np.abs(one - two).sum() == 4  # a and b, each in one half and not in the other


def test_rare_words_and_sentences_that_do_not_vary():
    common = [f"{verb} {noun}" for verb in ("grab", "take") for noun in "abcdefghij"]
    assert word_features([*common, "unheard of"]).shape[1] == 2 + 0  # grab and take
    assert word_features(["open the drawer"]).shape == (1, 0)


@given(st.lists(st.text("abc ", min_size=1), min_size=1, max_size=30))
def test_every_column_varies(instructions):
    found = word_features(instructions)
    assert found.shape[0] == len(instructions)
    assert ((found == 0) | (found == 1)).all()
    assert (found.std(0) > 0).all()
