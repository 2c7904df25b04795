"""Shards of links: the same data as copied, and what is said when the linked files change."""

import os
import pathlib
import shutil

import numpy as np
import pytest
import rlds

from rt1_jax.data import oxe
from rt1_jax.data.import_rlds import main
from rt1_jax.data.loader import make_loader
from rt1_jax.data.rlds.importer import import_rlds
from rt1_jax.data.shards import DatasetError
from rt1_jax.data.step_sample import sample_actions
from rt1_jax.data.store import StepStore

FRACTAL = "fractal20220817_data"


@pytest.fixture
def builder_dir(tmp_path):
    """Six episodes of four steps in three files."""
    return rlds.write_rlds(tmp_path / "rlds", FRACTAL, episodes=6, steps=4, shards=3)


def run(builder_dir, output, **options):
    options = {"progress": False, "link": True, **options}
    return import_rlds(oxe.get(FRACTAL), builder_dir, output, **options)


def tfrecord(builder_dir, number=0) -> pathlib.Path:
    return sorted(builder_dir.glob("*tfrecord*"))[number]


def test_links_give_what_copies_give(builder_dir, tmp_path):
    report = run(builder_dir, tmp_path / "linked")
    assert report == run(builder_dir, tmp_path / "copied", link=False)
    linked, copied = (StepStore.open(tmp_path / name) for name in ("linked", "copied"))
    assert linked.description["action_statistics"] == copied.description["action_statistics"]
    assert linked.instructions == copied.instructions
    for number in range(len(copied)):
        ours, want = linked.read_encoded(number), copied.read_encoded(number)
        assert ours.frames == want.frames
        for field, value in want.actions.items():
            np.testing.assert_array_equal(ours.actions[field], value)
        np.testing.assert_array_equal(
            linked.read(number, 1, 2).images, copied.read(number, 1, 2).images
        )
        np.testing.assert_array_equal(linked.embedding(number), copied.embedding(number))
    for field in copied.action_spec.field_names:
        np.testing.assert_array_equal(linked.all_actions(field), copied.all_actions(field))
    for steps in (7, 100):
        ours, want = (sample_actions(store, steps) for store in (linked, copied))
        for field, value in want.items():
            np.testing.assert_array_equal(ours[field], value)
    assert sum(f.stat().st_size for f in (tmp_path / "linked").glob("shard-*.npy")) < 24 * 200
    assert linked.metadata() == copied.metadata()


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_reads_links(builder_dir, tmp_path, workers):
    run(builder_dir, tmp_path / "linked")
    run(builder_dir, tmp_path / "copied", link=False)
    batches = [
        next(
            iter(
                make_loader(
                    StepStore.open(tmp_path / name), frames=3, batch_size=4, seed=1, workers=workers
                )
            )
        )
        for name in ("linked", "copied")
    ]
    np.testing.assert_array_equal(batches[0]["images"], batches[1]["images"])


def test_the_number_of_processes_changes_nothing(builder_dir, tmp_path):
    for processes in (1, 2):
        run(builder_dir, tmp_path / str(processes), processes=processes)
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "12"
    )
    assert one == two


def test_an_interrupted_import_goes_on(builder_dir, tmp_path):
    root = tmp_path / "data"
    run(builder_dir, root)
    whole = {path.name: path.read_bytes() for path in root.iterdir()}
    (root / "dataset.json").unlink()
    kept, lost, cut = sorted(root.glob("shard-*.npy"))
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:-10])
    changed = kept.stat().st_mtime_ns
    run(builder_dir, root)
    assert kept.stat().st_mtime_ns == changed
    assert {path.name: path.read_bytes() for path in root.iterdir()} == whole


def test_files_that_moved(builder_dir, tmp_path):
    run(builder_dir, tmp_path / "data")
    moved = tmp_path / "elsewhere"
    shutil.move(builder_dir, moved)
    with pytest.raises(DatasetError, match=r"is missing, whose frames .*\"directory\""):
        StepStore.open(tmp_path / "data")
    path = tmp_path / "data" / "dataset.json"
    path.write_text(path.read_text().replace(str(builder_dir), str(moved)))
    assert StepStore.open(tmp_path / "data").read(5).images.shape == (4, 256, 320, 3)


def test_a_file_of_another_size_is_not_what_was_linked(builder_dir, tmp_path):
    run(builder_dir, tmp_path / "data")
    file = tfrecord(builder_dir, 1)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DatasetError, match=f"{file.name} has .* bytes, but .* import them again"):
        StepStore.open(tmp_path / "data")


def test_a_frame_that_changed_is_named(builder_dir, tmp_path):
    run(builder_dir, tmp_path / "data")
    store = StepStore.open(tmp_path / "data")
    frame = store.read_encoded(2).frames[1]  # the first episode of the second file
    file = tfrecord(builder_dir, 1)
    content = bytearray(file.read_bytes())
    content[content.index(frame) + len(frame) // 2] ^= 1
    file.write_bytes(content)
    assert len(store.read(2, 2, 2)) == 2
    with pytest.raises(DatasetError, match=f"steps 1..2 of episode 2 .*{file.name} holds another"):
        store.read(2, 1, 1)


def test_damaged_records_are_left_out(builder_dir, tmp_path):
    file = tfrecord(builder_dir)
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    report = run(builder_dir, tmp_path / "data", max_damaged=0.5)
    assert report.left_out == {"corrupt record": 1}
    assert len(StepStore.open(tmp_path / "data")) == 5


@pytest.mark.parametrize("option", [{"image_size": (64, 64)}, {"image_format": "png"}])
def test_frames_cannot_be_changed(builder_dir, tmp_path, option):
    with pytest.raises(DatasetError, match="stay as they are.*without --link"):
        run(builder_dir, tmp_path / "data", **option)


def test_a_bucket_cannot_be_linked_to(builder_dir, tmp_path, monkeypatch):
    import dataclasses

    from rt1_jax.data.rlds import importer

    source = importer.RLDSSource.open(builder_dir)
    files = tuple(f"gs://bucket/{os.path.basename(file)}" for file in source.files)
    remote = dataclasses.replace(source, files=files)
    monkeypatch.setattr(importer.RLDSSource, "open", lambda *_: remote)
    with pytest.raises(DatasetError, match="gs://bucket/.* cannot be linked to"):
        run(builder_dir, tmp_path / "data")


def test_another_kind_of_import_is_not_continued(builder_dir, tmp_path):
    run(builder_dir, tmp_path / "data")
    (tmp_path / "data" / "dataset.json").unlink()
    with pytest.raises(DatasetError, match="link"):
        run(builder_dir, tmp_path / "data", link=False)


def test_the_command(builder_dir, tmp_path, capsys):
    output = tmp_path / "data"
    given = [f"--builder_dir={builder_dir}", f"--dataset={FRACTAL}", f"--output={output}", "--link"]
    assert main([*given, "--processes=1"]) == 0
    assert "6 episodes, 24 steps" in capsys.readouterr().out
    assert len(StepStore.open(output)) == 6
