"""docs/open_x_datasets.md says what the registry says."""

from __future__ import annotations

import pathlib

import pytest

from rt1_jax.data import oxe

DOCUMENT = pathlib.Path(__file__).parents[3] / "docs" / "open_x_datasets.md"


def row(dataset: oxe.RLDSDataset) -> str:
    """The dataset's row of the document's table."""
    name = dataset.name
    weight = f"{oxe.RT1_X_WEIGHTS[name]:g}" if name in oxe.RT1_X_WEIGHTS else "–"
    keys = ", ".join(f"`{key.removeprefix('action/')}`" for key in dataset.action_keys)
    cells = [
        f"`{name}`",
        f"`{dataset.image}`",
        f"`{dataset.instruction}`",
        "yes" if dataset.embedding else "no",
        keys,
        *(bounds(dataset, field) for field in ("world_vector", "rotation_delta")),
        dataset.gripper,
        f"{dataset.frame_rate:g}",
        weight,
    ]
    return f"| {' | '.join(cells)} |"


def bounds(dataset: oxe.RLDSDataset, name: str) -> str:
    field = dataset.action_spec.field(name)
    if field.unit.startswith("none"):
        return field.unit
    spans = [
        f"±{high:.3g}" if low == -high else f"{low:.3g} to {high:.3g}"
        for low, high in zip(field.low, field.high, strict=True)
    ]
    return f"{spans[0] if len(set(spans)) == 1 else '; '.join(spans)} {field.unit}"


@pytest.mark.parametrize("name", oxe.names())
def test_the_table_is_that_of_the_registry(name):
    expected = row(oxe.get(name))
    assert expected in DOCUMENT.read_text().splitlines(), f"the row should be\n{expected}"


def test_every_note_is_there():
    text = " ".join(DOCUMENT.read_text().split())
    for name in oxe.names():
        assert f"**`{name}`**" in text
        assert oxe.get(name).notes in text, name
