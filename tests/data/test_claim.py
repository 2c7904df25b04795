"""A directory says what its data are made of, and what is asked for must be the same."""

import json

import pytest

from rt1_jax.data.claim import claim_directory
from rt1_jax.data.shards import DatasetError

MADE_OF = {
    "files": 3,
    "recipe": "import numpy\n\nSCALE = 2\n",
    "description": {
        "rate": 3.0,
        "spec": {"fields": [{"name": "x", "low": [0.0]}, {"name": "y", "low": [0.0]}]},
    },
}


def claim(root, **changes):
    return claim_directory(root, {**MADE_OF, **changes}, "import.json")


def test_the_same_is_claimed_again(tmp_path):
    claim(tmp_path / "data")
    (tmp_path / "data/.x.partial-1").write_text("half")
    assert claim(tmp_path / "data") == tmp_path / "data"
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["import.json"]


def test_what_differs_is_named_by_its_place(tmp_path):
    claim(tmp_path)
    spec = {"fields": [{"name": "x", "low": [0.0]}, {"name": "y", "low": [-1.0]}]}
    with pytest.raises(
        DatasetError,
        match=r"made with description.spec.fields.y.low=\[0.0\], asked for \[-1.0\]: choose "
        "another --output or delete it",
    ):
        claim(tmp_path, description={"rate": 3.0, "spec": spec})


def test_of_a_text_the_line_is_named(tmp_path):
    claim(tmp_path)
    with pytest.raises(DatasetError, match="recipe, line 3='SCALE = 2', asked for 'SCALE = 5'"):
        claim(tmp_path, recipe="import numpy\n\nSCALE = 5\n")


def test_long_values_are_cut(tmp_path):
    claim(tmp_path, files=list(range(1000)))
    with pytest.raises(DatasetError) as caught:
        claim(tmp_path, files=list(range(1001)))
    assert len(str(caught.value)) < 500


def test_what_an_older_version_did_not_note(tmp_path):
    older = {key: value for key, value in MADE_OF.items() if key != "description"}
    (tmp_path / "import.json").write_text(json.dumps(older))
    with pytest.raises(DatasetError, match=r"begun by an older version.*'description'.*--output"):
        claim(tmp_path)


@pytest.mark.parametrize("content", ["{half", "[1, 2]"])
def test_a_mark_that_cannot_be_read(tmp_path, content):
    (tmp_path / "import.json").write_text(content)
    with pytest.raises(DatasetError, match=r"import.json cannot be read.*--output"):
        claim(tmp_path)
