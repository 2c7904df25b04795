"""LeRobot datasets become ours: frames, actions, instructions; what is odd is named."""

from __future__ import annotations

import json
import textwrap

import lerobot_dataset as made
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small

from rt1_jax.data import import_lerobot as module
from rt1_jax.data.import_lerobot import import_lerobot, main, make_plan
from rt1_jax.data.lerobot.layout import LeRobotError
from rt1_jax.data.store import StepStore


def take(source, output, *, camera=made.CAMERA, processes=1, max_odd=0.05, **kwargs):
    plan = make_plan(source, camera=camera, **kwargs)
    counts = import_lerobot(
        plan,
        output,
        processes=processes,
        encoder=small.HashEncoder(),
        max_odd=max_odd,
        progress=False,
    )
    return StepStore.open(output), counts


@pytest.fixture
def source(tmp_path):
    return made.write(tmp_path / "lerobot")


def check_whole(store):
    assert store.lengths.tolist() == list(made.LENGTHS)
    for episode in range(4):
        got, want = store.read(episode), made.actions(episode)
        first = made.first_index(episode)
        assert [made.frame_index(image) for image in got.images] == list(
            range(first, first + made.LENGTHS[episode])
        )
        np.testing.assert_array_equal(got.actions["world_vector"], want[:, :3])
        np.testing.assert_array_equal(got.actions["rotation_delta"], want[:, 3:6])
        np.testing.assert_array_equal(got.actions["gripper_closedness_action"], want[:, 6:])
        assert got.actions["terminate_episode"].argmax(-1).tolist() == [1] * (len(got) - 1) + [0]
        assert got.instruction == f"task {episode % 2}"


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"g": "2", "crf": "20"}),
        # B-frames, and keyframes that lie neither at nor near the episodes' beginnings.
        ("libx264", {"g": "250", "bf": "3", "crf": "20", "b_strategy": "0"}),
        ("libx264", {"g": "3", "bf": "2", "crf": "20", "x264-params": "open-gop=1"}),
    ],
)
def test_every_frame_is_the_right_one(tmp_path, codec, options):
    source = made.write(tmp_path / "lerobot", codec=codec, options=options)
    store, counts = take(source, tmp_path / "data")
    check_whole(store)
    assert store.description["image_format"] == "jpeg"
    assert store.description["frame_rate"] == made.FPS
    assert counts["zero_fields"] == [
        "base_displacement_vertical_rotation",
        "base_displacement_vector",
    ]
    assert store.description["source"]["robot"] == "so100"


def test_all_episodes_in_one_file_and_a_file_for_each(tmp_path):
    for name, files in (("one", ((0, 1, 2, 3),)), ("each", ((0,), (1,), (2,), (3,)))):
        source = made.write(tmp_path / name, files=files, options={"g": "8", "bf": "2"})
        check_whole(take(source, tmp_path / f"{name}-data")[0])


def test_pictures_in_the_tables_are_kept_as_they_are(tmp_path):
    source = made.write(tmp_path / "lerobot", video=False)
    store, _ = take(source, tmp_path / "data")
    check_whole(store)
    assert store.read_encoded(1).frames[2] == made.png(made.frame(made.first_index(1) + 2))


def test_a_vector_of_one_entry(tmp_path):
    # Such a feature is a column of numbers, not of lists.
    source = made.write(tmp_path / "lerobot")
    made.edit_info(source, lambda info: info["features"]["action"].update(shape=[1], names=["x"]))
    for file in (0, 1):
        path = source / f"data/chunk-000/file-{file:03d}.parquet"
        rows = [{**r, "action": r["action"][0]} for r in pq.read_table(path).to_pylist()]
        pq.write_table(pa.Table.from_pylist(rows), path)
    mapping = tmp_path / "actions.json"
    mapping.write_text(json.dumps({"gripper_closedness_action": "x"}))
    store, _ = take(source, tmp_path / "data", actions=str(mapping))
    found = store.read(1).actions["gripper_closedness_action"]
    np.testing.assert_array_equal(found[:, 0], made.actions(1)[:, 0])


def test_pictures_of_another_size_are_resized(tmp_path):
    source = made.write(tmp_path / "lerobot", video=False)
    store, _ = take(source, tmp_path / "data", image_size=(16, 24))
    assert store.image_size == (16, 24)
    assert store.description["image_format"] == "png"
    check_whole(store)


def test_shards_and_processes_make_no_difference(source, tmp_path):
    one, _ = take(source, tmp_path / "one", episodes_per_shard=2)
    take(source, tmp_path / "two", episodes_per_shard=2, processes=2)
    assert len(one.description["shards"]) == 2
    for path in (tmp_path / "one").glob("shard-*"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_an_interrupted_import_goes_on(source, tmp_path, monkeypatch):
    real, calls = module.read_episode, []

    def failing(opened, row, *rest):
        calls.append(row)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(opened, row, *rest)

    monkeypatch.setattr(module, "read_episode", failing)
    with pytest.raises(KeyboardInterrupt):
        take(source, tmp_path / "data", episodes_per_shard=2)
    assert {path.name for path in (tmp_path / "data").iterdir()} == {
        "import.json",
        "shard-00000-of-00002.array_record",
        "shard-00000-of-00002.json",
    }
    store, _ = take(source, tmp_path / "data", episodes_per_shard=2)
    check_whole(store)
    assert calls == [0, 1, 2, 3, 2, 3]


def test_another_mapping_is_named_by_its_line(source, tmp_path):
    mapping = tmp_path / "actions.py"
    text = """
        from rt1_jax.actions import RT1
        import dataclasses
        SCALE = 1
        ACTION_SPEC = dataclasses.replace(RT1, name="x", fields=RT1.fields[1:2])
        def actions(action, state):
            return {"world_vector": SCALE * action[:, :3]}
    """
    mapping.write_text(textwrap.dedent(text))
    take(source, tmp_path / "data", actions=str(mapping))
    mapping.write_text(textwrap.dedent(text).replace("SCALE = 1", "SCALE = 20"))
    with pytest.raises(LeRobotError, match="recipe, line 4='SCALE = 1', asked for 'SCALE = 20'"):
        take(source, tmp_path / "data", actions=str(mapping))


def test_another_import_in_the_same_directory_is_refused(source, tmp_path):
    take(source, tmp_path / "data")
    with pytest.raises(LeRobotError, match=r"holds data made with image_size=\[32, 48\]"):
        take(source, tmp_path / "data", image_size=(8, 8))
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").touch()
    with pytest.raises(LeRobotError, match="not an unfinished dataset"):
        take(source, tmp_path / "other")


class TestOddEpisodes:
    def odd(self, source, output, reason, episodes):
        with pytest.raises(LeRobotError, match=f"1 of 4 episodes.*max_odd.*{reason}"):
            take(source, output)
        store, counts = take(source, output, max_odd=0.5)
        assert len(store) == 3
        assert counts["left_out"] == 1
        assert counts["odd"][reason]["episodes"] == episodes
        assert store.description["source"]["odd"][reason]["count"] == 1

    def test_a_number_that_is_none(self, source, tmp_path):
        made.edit_rows(source, 0, lambda rows: rows[5]["action"].__setitem__(4, float("nan")))
        self.odd(source, tmp_path / "data", "non-finite action", [1])

    def test_a_malformed_action(self, source, tmp_path):
        mapping = tmp_path / "actions.json"
        mapping.write_text(json.dumps({"world_vector": [0, 1, 2], "terminate_episode": [3, 4, 5]}))

        def flags(rows):
            for row in rows:
                row["action"][3:6] = [0, 1, 0]

        for file in (0, 1):
            made.edit_rows(source, file, flags)
        made.edit_rows(source, 1, lambda rows: rows[7]["action"].__setitem__(4, 0))
        with pytest.raises(
            LeRobotError, match=r"1 of 4 .*max_odd.*malformed action: 1 \(episodes 3; .*vector 2 is"
        ):
            take(source, tmp_path / "data", actions=str(mapping))
        store, counts = take(source, tmp_path / "data", actions=str(mapping), max_odd=0.5)
        assert store.lengths.tolist() == [4, 7, 5]
        assert counts["odd"]["malformed action"]["episodes"] == [3]

    def test_an_empty_task(self, source, tmp_path):
        tasks = {"task_index": [0, 1, 2], "task": ["task 0", "task 1", " "]}
        pq.write_table(pa.table(tasks), source / "meta/tasks.parquet")
        made.edit_rows(source, 1, lambda rows: [r.update(task_index=2) for r in rows[:5]])
        self.odd(source, tmp_path / "data", "empty task", [2])

    def test_one_step(self, source, tmp_path):
        path = source / "meta/episodes/chunk-000/file-000.parquet"
        rows = pq.read_table(path).to_pylist()
        rows[3]["length"] = 1
        pq.write_table(pa.Table.from_pylist(rows), path)
        made.edit_rows(source, 1, lambda rows: rows.__delitem__(slice(6, None)))
        self.odd(source, tmp_path / "data", "one step", [3])

    def test_a_missing_frame(self, source, tmp_path):
        path = source / f"videos/{made.CAMERA}/chunk-000/file-001.mp4"
        path.unlink()
        made.write_video(path, list(range(11, 18)), {"g": "2"}, "libx264")  # of 8 frames
        self.odd(source, tmp_path / "data", "video frame missing", [3])

    @pytest.mark.parametrize("keep", [5, 60])
    def test_a_truncated_picture(self, tmp_path, keep):
        source = made.write(tmp_path / "lerobot", video=False)

        def cut(rows):
            rows[1][made.CAMERA]["bytes"] = rows[1][made.CAMERA]["bytes"][:keep]

        made.edit_rows(source, 0, cut)
        self.odd(source, tmp_path / "data", "picture that cannot be decoded", [0])

    def test_a_task_that_changes_is_noted_and_kept(self, source, tmp_path):
        made.edit_rows(source, 0, lambda rows: rows[-1].update(task_index=0))
        store, counts = take(source, tmp_path / "data")
        check_whole(store)
        ((reason, entry),) = counts["odd"].items()
        assert "task changes" in reason
        assert entry == {"count": 1, "episodes": [1], "example": "at step 6"}


class TestSourcesThatDoNotFit:
    @pytest.mark.parametrize(
        ("file", "message"),
        [
            ("meta/info.json", "not a LeRobot dataset"),
            ("meta/tasks.parquet", "tasks.parquet is missing"),
            ("meta/episodes/chunk-000/file-000.parquet", "no parquet files"),
            ("data/chunk-000/file-001.parquet", "file-001.parquet is missing"),
            (f"videos/{made.CAMERA}/chunk-000/file-001.mp4", "file-001.mp4 is missing"),
        ],
    )
    def test_a_missing_file(self, source, tmp_path, file, message):
        (source / file).unlink()
        with pytest.raises(LeRobotError, match=message):
            take(source, tmp_path / "data")

    @pytest.mark.parametrize("file", ["meta/tasks.parquet", "data/chunk-000/file-001.parquet"])
    def test_a_truncated_table(self, source, tmp_path, file):
        data = (source / file).read_bytes()
        (source / file).write_bytes(data[: len(data) // 2])
        with pytest.raises(LeRobotError, match=f"{file} cannot be read.*download it again"):
            take(source, tmp_path / "data")

    def test_a_truncated_video(self, source, tmp_path):
        path = source / f"videos/{made.CAMERA}/chunk-000/file-001.mp4"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])  # its index is at the end
        with pytest.raises(LeRobotError, match=r"file-001.mp4 cannot be opened.*truncated"):
            take(source, tmp_path / "data")

    def test_older_and_newer_versions(self, source, tmp_path):
        made.edit_info(source, lambda info: info.update(codebase_version="v2.1"))
        with pytest.raises(LeRobotError, match=r"version v2.1.*convert_dataset_v21_to_v30"):
            take(source, tmp_path / "data")
        made.edit_info(source, lambda info: info.update(codebase_version="v4.0"))
        with pytest.raises(LeRobotError, match=r"'v4.0'; v3.0 is read"):
            take(source, tmp_path / "data")

    def test_an_unknown_camera(self, source, tmp_path):
        with pytest.raises(LeRobotError, match=r"did you mean 'observation.images.front'\?"):
            take(source, tmp_path / "data", camera="observation.image.frnt")

    def test_no_action(self, source, tmp_path):
        made.edit_info(source, lambda info: info["features"].pop("action"))
        with pytest.raises(LeRobotError, match="no feature 'action'; its features are"):
            take(source, tmp_path / "data")

    def test_episodes_that_are_not_listed(self, source, tmp_path):
        made.edit_info(source, lambda info: info.update(total_episodes=9))
        with pytest.raises(LeRobotError, match=r"lists 4 episodes, meta/info.json 9"):
            take(source, tmp_path / "data")

    def test_rows_that_are_not_whole(self, source, tmp_path):
        made.edit_rows(source, 0, lambda rows: rows.pop(2))
        with pytest.raises(LeRobotError, match=r"episode 0 has 3 rows.*not 0..3"):
            take(source, tmp_path / "data")


def test_the_command(source, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("rt1_jax.language.load_encoder", lambda *a, **k: small.HashEncoder())
    mapping = tmp_path / "actions.json"
    mapping.write_text(json.dumps({"world_vector": {"index": ["x", "y", "z"], "high": 0.1}}))
    arguments = [f"--source={source}", f"--camera={made.CAMERA}", f"--output={tmp_path / 'data'}"]
    assert main([*arguments, f"--actions={mapping}", "--image_size=16,24", "--processes=1"]) == 0
    printed = capsys.readouterr().out
    assert "4 episodes (19 steps), left out 0" in printed
    assert "nothing maps rotation_delta" in printed
    assert "beyond the bounds of 'world_vector'" in printed
    for size in ("16", "16x24"):
        assert main([*arguments, f"--image_size={size}"]) == 1
        assert f"--image_size={size}: expected height,width" in capsys.readouterr().err
