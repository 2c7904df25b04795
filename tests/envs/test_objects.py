import itertools

import numpy as np
import pytest

from rt1_jax.envs.objects import COLOURS, SHAPES, ObjectType, all_objects


def test_there_are_24_objects_with_distinct_names():
    assert len({kind.name for kind in all_objects()}) == 24


def test_names_round_trip():
    for kind in all_objects():
        assert ObjectType.parse(kind.name) == kind


@pytest.mark.parametrize("name", ["pink block", "red cube", "red", "block red", ""])
def test_unknown_names_are_refused_and_named(name):
    with pytest.raises(ValueError, match="unknown object"):
        ObjectType.parse(name)


def test_colours_are_far_apart():
    for a, b in itertools.combinations(COLOURS.values(), 2):
        assert np.linalg.norm(np.subtract(a, b)) > 0.35


def test_every_object_fits_between_the_open_fingers_with_two_centimetres_to_spare():
    for shape in SHAPES.values():
        assert 0.10 - 2 * shape.radius >= 0.04


def test_only_cans_and_bottles_topple():
    assert [name for name, shape in SHAPES.items() if shape.topples] == ["can", "bottle"]
