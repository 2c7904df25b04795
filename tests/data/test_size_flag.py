import pytest

from rt1_jax.data.shards import DatasetError
from rt1_jax.data.size_flag import read_size


def test_height_and_width():
    assert read_size("256,320") == (256, 320)


@pytest.mark.parametrize("text", ["", "256", "256x320", "256,320,3", "256,", "0,320", "256,-1"])
def test_anything_else_is_refused_with_an_example(text):
    with pytest.raises(DatasetError, match=rf"--image_size={text}: expected height,width.*256,320"):
        read_size(text)
