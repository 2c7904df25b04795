"""What an import makes of RLDS files."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import rlds
import rlds_schemas
import small
from rlds_imports import FRACTAL, files_of, run

from rt1_jax.actions import RT1_X
from rt1_jax.data import oxe
from rt1_jax.data.encoded import image_header
from rt1_jax.data.import_rlds import main
from rt1_jax.data.shards import DatasetError, ShardReader
from rt1_jax.data.store import StepStore


def encoded_frames(root):
    """All frames of a dataset as they are on disk."""
    steps = []
    for path in sorted(root.glob("*.array_record")):
        reader = ShardReader(path)
        steps += reader.read_steps(0, reader.num_records())
    return [step["image"] for step in steps]


def frames_of(builder_dir, path="observation/image"):
    """All frames as they are in the TFRecords, by TFDS, without decoding."""
    import tensorflow_datasets as tfds

    skip = tfds.decode.SkipDecoding()
    decoders: dict = skip
    for key in reversed(path.split("/")):
        decoders = {key: decoders}
    builder = tfds.builder_from_directory(str(builder_dir))
    dataset = builder.as_dataset(split="train", decoders={"steps": decoders})
    frames = []
    for episode in dataset:
        for step in episode["steps"]:
            for key in path.split("/"):
                step = step[key]
            frames.append(step.numpy())
    return frames


@pytest.mark.parametrize("name", sorted(rlds_schemas.SCHEMAS))
def test_every_dataset_of_the_registry(tmp_path, name):
    dataset = oxe.get(name)
    builder_dir = rlds.write_rlds(tmp_path / "rlds", name, episodes=3, steps=4, shards=2)
    encoder = None
    if dataset.embedding is None:
        encoder = small.HashEncoder()
    run(builder_dir, tmp_path / "data", dataset=dataset, encoder=encoder, max_clipped=1.0)
    store = StepStore.open(tmp_path / "data")
    assert store.action_spec == dataset.action_spec
    assert store.description["frame_rate"] == dataset.frame_rate
    assert store.lengths.tolist() == [4, 4, 4]
    for number, steps in enumerate(rlds.read_rlds(builder_dir)):
        episode = store.read(number)
        for field, want in dataset.actions(steps).items():
            np.testing.assert_array_equal(episode.actions[field], want)
        assert episode.instruction == dataset.read_instruction(steps[dataset.instruction][0])
        if dataset.embedding is not None:
            np.testing.assert_array_equal(store.embedding(number), steps[dataset.embedding][0])
    if dataset.rt1_x is not None:
        run(
            builder_dir,
            tmp_path / "rt1_x",
            dataset=dataset,
            encoder=encoder,
            max_clipped=1.0,
            scale="rt1_x",
        )
        scaled = StepStore.open(tmp_path / "rt1_x")
        assert scaled.action_spec == RT1_X
        want = dataset.rt1_x_actions(store.read(2).actions)
        for field, value in scaled.read(2).actions.items():
            np.testing.assert_array_equal(value, want[field])


def test_frames_are_the_very_bytes(fractal, tmp_path):
    report = run(fractal, tmp_path / "data")
    assert (report.episodes, report.steps, report.left_out) == (6, 24, {})
    assert encoded_frames(tmp_path / "data") == frames_of(fractal)
    store = StepStore.open(tmp_path / "data")
    assert store.encoder.name == f"tfhub:{oxe.get(FRACTAL).embedding_encoder}"
    assert store.description["source"]["dataset"] == FRACTAL
    statistics = store.description["action_statistics"]["world_vector"]
    actions = np.concatenate([store.read(i).actions["world_vector"] for i in range(6)])
    np.testing.assert_allclose(statistics["mean"], actions.mean(0), atol=1e-7)
    assert set(statistics) >= {"q01", "q50", "q99", "clipped"}


def test_the_number_of_processes_changes_nothing(fractal, tmp_path):
    run(fractal, tmp_path / "one", processes=1)
    run(fractal, tmp_path / "two", processes=2)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_an_interrupted_import_goes_on(fractal, tmp_path):
    root = tmp_path / "data"
    run(fractal, root)
    whole = files_of(root)
    kept = root / "shard-00000-of-00003.array_record"
    changed = kept.stat().st_mtime_ns
    # As if it had been killed inside of the second shard; the third is truncated.
    for name in ("dataset.json", "shard-00001-of-00003.array_record"):
        (root / name).unlink()
    (root / "shard-00001-of-00003.partial-77").write_bytes(b"half")
    third = root / "shard-00002-of-00003.array_record"
    third.write_bytes(third.read_bytes()[:1000])
    with pytest.raises(DatasetError, match="interrupted"):
        StepStore.open(root)
    run(fractal, root)
    assert kept.stat().st_mtime_ns == changed
    # The stored embeddings of the kept shard were gathered already: they are the dataset's.
    assert files_of(root) == whole


def test_resizing_and_another_format(fractal, tmp_path):
    run(fractal, tmp_path / "data", image_size=(64, 80), image_format="png")
    store = StepStore.open(tmp_path / "data")
    assert store.image_size == (64, 80)
    assert {image_header(frame) for frame in encoded_frames(tmp_path / "data")} == {("png", 64, 80)}


def test_black_bars_keep_the_ratio(fractal, tmp_path):
    run(fractal, tmp_path / "data", image_size=(256, 400), image_format="png", image_fit="pad")
    run(fractal, tmp_path / "plain")
    wide = StepStore.open(tmp_path / "data").read(0).images
    np.testing.assert_array_equal(wide[:, :, :40], 0)
    np.testing.assert_array_equal(wide[:, :, 360:], 0)
    plain = StepStore.open(tmp_path / "plain").read(0).images
    np.testing.assert_array_equal(wide[:, :, 40:360], plain)


def test_only_some_episodes(fractal, tmp_path):
    report = run(fractal, tmp_path / "data", episodes=3)
    assert report.episodes == 3
    assert len(StepStore.open(tmp_path / "data")) == 3


def test_a_full_disk_leaves_nothing_half_written(fractal, tmp_path):
    """A limit on the size of files stands for the disk's."""
    script = textwrap.dedent(
        f"""
        import resource, signal, sys
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        from rt1_jax.data.import_rlds import main
        sys.exit(main(["--builder_dir={fractal}", "--dataset={FRACTAL}", "--processes=1",
                       "--output={tmp_path / "data"}"]))
        """
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.returncode == 1, ended.stderr
    assert "nothing of this shard was kept" in ended.stderr
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["import.json"]
    assert run(fractal, tmp_path / "data").episodes == 6


def test_the_command_with_a_dataset_of_ones_own(fractal, tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(
        textwrap.dedent(
            f"""
            import dataclasses
            from rt1_jax.data import oxe

            base = oxe.get("{FRACTAL}")

            def mapping(steps):
                actions = base.mapping(steps)
                return {{**actions, "world_vector": actions["world_vector"] / 2}}

            DATASETS = [dataclasses.replace(base, name="mine", mapping=mapping)]
            """
        )
    )
    arguments = [f"--builder_dir={fractal}", f"--output={tmp_path / 'data'}", "--processes=2"]
    assert main([*arguments, "--dataset=mine", f"--registry={file}"]) == 0
    assert "6 episodes, 24 steps" in capsys.readouterr().out
    run(fractal, tmp_path / "plain")
    mine, plain = (StepStore.open(tmp_path / name).read(0) for name in ("data", "plain"))
    np.testing.assert_allclose(
        2 * mine.actions["world_vector"], plain.actions["world_vector"], rtol=1e-6
    )
    assert main([*arguments, "--dataset=fractal"]) == 1
    assert f"{FRACTAL}" in capsys.readouterr().err
