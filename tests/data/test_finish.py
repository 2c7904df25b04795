"""A dataset that is finished anew is whole before, or after, and nothing in between."""

import pytest
import small

from rt1_jax.data import finish
from rt1_jax.data.shards import DatasetError
from rt1_jax.data.store import StepStore
from rt1_jax.language import EncoderIdentity


class OtherEncoder:
    """Not the encoder that `small` makes its datasets with."""

    identity = EncoderIdentity("stored:other", 512)

    def embed(self, instructions):
        return small.HashEncoder().embed(instructions)[:, ::-1].copy()


class BrokenEncoder(OtherEncoder):
    def embed(self, instructions):
        raise OSError("no network")


@pytest.fixture
def dataset(tmp_path):
    return small.make_dataset(tmp_path / "data")


def finish_again(root, encoder):
    old = StepStore.open(root)
    finish.finish_dataset(
        root,
        [root / name for name in old.description["shards"]],
        action_spec=old.action_spec,
        frame_rate=3.0,
        source={},
        encoder=encoder,
    )


def test_another_encoder_replaces_the_embeddings(dataset):
    finish_again(dataset, OtherEncoder())
    store = StepStore.open(dataset)
    assert store.encoder.name == "stored:other"
    want = OtherEncoder().embed([store.instructions[store.instruction_ids[2]]])[0]
    assert (store.embedding(2) == want).all()


@pytest.mark.parametrize("file", ["dataset.json", "instructions.json", "embeddings.npy"])
def test_a_full_disk_leaves_nothing_that_opens(dataset, monkeypatch, file):
    real = finish.write_atomically

    def full(path, *rest):
        if path.name == file:
            raise OSError(28, "No space left on device")
        return real(path, *rest)

    monkeypatch.setattr(finish, "write_atomically", full)
    with pytest.raises(OSError, match="No space left"):
        finish_again(dataset, OtherEncoder())
    with pytest.raises(DatasetError, match="interrupted"):
        StepStore.open(dataset)


def test_an_encoder_that_fails_has_touched_nothing(dataset):
    before = {path.name: path.read_bytes() for path in dataset.iterdir()}
    with pytest.raises(OSError, match="no network"):
        finish_again(dataset, BrokenEncoder())
    assert {path.name: path.read_bytes() for path in dataset.iterdir()} == before
