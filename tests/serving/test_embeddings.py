import asyncio
import io

import numpy as np
import pytest
import small

from rt1_jax.language import EncoderIdentity
from rt1_jax.serving import embeddings
from rt1_jax.serving.embeddings import (
    EmbeddingFileError,
    InstructionEmbedder,
    read_embeddings,
    write_embeddings,
)
from rt1_jax.serving.observation import ObservationError

ENCODER = small.HashEncoder()
TFHUB = EncoderIdentity("tfhub:somewhere", 512)


class Counting:
    def __init__(self):
        self.asked = []

    def __call__(self, instructions):
        self.asked += instructions
        if instructions == ["boom"]:
            raise OSError("weights are gone")
        return ENCODER.embed(instructions)


@pytest.fixture
def counting():
    return Counting()


def run(embedder, *instructions):
    """Embeds some one after another; tuples of them at once."""

    async def go():
        rows = []
        for item in instructions:
            together = (item,) if isinstance(item, str) else item
            rows += await asyncio.gather(*map(embedder, together))
        return rows

    try:
        return asyncio.run(go())
    finally:
        embedder.close()


def test_what_was_embedded_is_remembered(counting):
    looks = []
    embedder = InstructionEmbedder(counting, ENCODER.identity, on_look=looks.append)
    rows = run(embedder, "a", "b", "a", "a")
    np.testing.assert_array_equal(rows, ENCODER.embed(["a", "b", "a", "a"]))
    assert counting.asked == ["a", "b"]
    assert looks == [False, False, True, True]


def test_the_least_recent_is_forgotten(counting):
    embedder = InstructionEmbedder(counting, ENCODER.identity, capacity=2)
    run(embedder, "a", "b", "a", "c", "a", "b")
    assert counting.asked == ["a", "b", "c", "b"]


def test_robots_that_say_the_same_share_one_embedding(counting):
    embedder = InstructionEmbedder(counting, ENCODER.identity)
    rows = run(embedder, ("a", "a", "b", "a"))
    np.testing.assert_array_equal(rows, ENCODER.embed(["a", "a", "b", "a"]))
    assert counting.asked == ["a", "b"]


def test_a_failure_is_not_remembered(counting):
    embedder = InstructionEmbedder(counting, ENCODER.identity)

    async def go():
        for _ in range(2):
            with pytest.raises(OSError, match="gone"):
                await embedder("boom")
        return await embedder("a")

    np.testing.assert_array_equal(asyncio.run(go()), ENCODER.embed(["a"])[0])
    embedder.close()
    assert counting.asked == ["boom", "boom", "a"]


def test_a_tensorflow_encoder_is_never_asked(counting):
    table = {"known": np.ones(512, np.float32)}
    embedder = InstructionEmbedder(counting, TFHUB, table)
    assert "TensorFlow" in embedder.warm()

    async def go():
        with pytest.raises(ObservationError, match=r"^instruction: .*tfhub.*1 instructions") as e:
            await embedder("new")
        assert "send 'embedding'" in str(e.value)
        return await embedder("known")

    np.testing.assert_array_equal(asyncio.run(go()), table["known"])
    embedder.close()
    assert counting.asked == []


def test_an_encoder_that_does_not_load_is_told_of(counting):
    def broken(instructions):
        raise ValueError("not the encoder recorded")

    embedder = InstructionEmbedder(broken, ENCODER.identity)
    assert embedder.warm() == "not the encoder recorded"
    with pytest.raises(ObservationError, match="not the encoder recorded"):
        run(embedder, "a")
    working = InstructionEmbedder(counting, ENCODER.identity)
    assert working.warm() is None
    working.close()


def test_files_come_back_as_written(tmp_path):
    path = tmp_path / "known.npz"
    write_embeddings(path, ["a", "b ü"], ENCODER.embed(["a", "b ü"]), ENCODER.identity)
    table = read_embeddings(path, ENCODER.identity)
    assert list(table) == ["a", "b ü"]
    np.testing.assert_array_equal(list(table.values()), ENCODER.embed(["a", "b ü"]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"encoder": np.asarray("other")}, "was made by 'other', the checkpoint needs"),
        ({"embeddings": np.zeros((2, 3), "f4")}, r"holds float32 \[2, 3\] for 2 instructions"),
        ({"embeddings": np.full((2, 512), np.nan, "f4")}, "not finite"),
        ({"instructions": None}, "not a file of embeddings"),
        ({"instructions": np.asarray(["a", None], object)}, "not a file of embeddings"),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path, change, words):
    parts = {
        "instructions": np.asarray(["a", "b"]),
        "embeddings": np.zeros((2, 512), np.float32),
        "encoder": np.asarray(ENCODER.identity.name),
        **change,
    }
    path = tmp_path / "known.npz"
    np.savez(path, **{name: value for name, value in parts.items() if value is not None})
    with pytest.raises(EmbeddingFileError, match=words):
        read_embeddings(path, ENCODER.identity)


def an_array():
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


@pytest.mark.parametrize("content", [None, b"", b"not a zip", b"PK\3\4 broken", an_array()])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "known.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EmbeddingFileError, match="known.npz is not a file of embeddings"):
        read_embeddings(path, ENCODER.identity)


def test_the_command_embeds_a_text_file(tmp_path, capsys):
    (tmp_path / "words.txt").write_text("pick up the red block\n\n  pick up the red block \ngo\n")
    words, output = f"--instructions={tmp_path}/words.txt", tmp_path / "known.npz"
    status = embeddings.main(["--checkpoint=tabletop-small", words, f"--output={output}"])
    assert status == 0, capsys.readouterr().err
    import rt1_jax

    policy = rt1_jax.load_policy("tabletop-small")
    table = read_embeddings(output, policy.description.encoder)
    assert list(table) == ["pick up the red block", "go"]
    np.testing.assert_array_equal(table["go"], policy.embed(["go"])[0])
    assert "known.npz: 2 instructions" in capsys.readouterr().out


def test_the_command_names_what_is_missing(tmp_path, capsys):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    for path in (tmp_path / "nothing.txt", empty):
        arguments = [f"--instructions={path}", "--output=x", "--checkpoint=tabletop-small"]
        assert embeddings.main(arguments) == 2
        assert path.name in capsys.readouterr().err
