"""What an import leaves out, and what it refuses."""

import dataclasses
import pathlib

import numpy as np
import pytest
import rlds
import rlds_schemas
from rlds_imports import FRACTAL, odd_rlds, run, set_in_steps

from rt1_jax.data import oxe
from rt1_jax.data.episode import encode_image
from rt1_jax.data.import_rlds import main
from rt1_jax.data.shards import DatasetError
from rt1_jax.data.store import StepStore


class TestOddEpisodes:
    def test_empty_instructions_and_single_steps_are_left_out(self, tmp_path):
        def change(number, episode):
            if number == 1:
                set_in_steps("observation/natural_language_instruction", "")(1, episode)
            if number == 2:
                episode["steps"] = episode["steps"][-1:]

        report = run(odd_rlds(tmp_path / "rlds", change), tmp_path / "data")
        assert report.left_out == {"empty instruction": 1, "one step": 1}
        assert report.episodes == 2
        assert any("episode 1" in example for example in report.examples)
        source = StepStore.open(tmp_path / "data").description["source"]
        assert source["left_out"] == report.left_out

    @pytest.mark.parametrize(
        ("path", "value", "reason"),
        [
            ("action/world_vector", np.float32([0, np.nan, 0]), "non-finite action"),
            ("action/terminate_episode", np.int32([0, 0, 0]), "malformed action"),
            ("action/terminate_episode", np.int32([1, 1, 0]), "malformed action"),
            (
                "observation/image",
                encode_image(np.zeros((256, 320, 3), np.uint8), "jpeg")[:-40],
                "damaged frame",
            ),
        ],
    )
    def test_damage_is_counted_against_a_limit(self, tmp_path, path, value, reason):
        builder_dir = odd_rlds(tmp_path / "rlds", set_in_steps(path, value))
        with pytest.raises(DatasetError, match=rf"1 .*of 4 episodes.*{reason}.*max_damaged=0.01"):
            run(builder_dir, tmp_path / "data")
        assert not (tmp_path / "data" / "dataset.json").exists()
        report = run(builder_dir, tmp_path / "data", max_damaged=0.3)
        assert report.left_out == {reason: 1}
        assert "episode 1: " in report.examples[0]
        assert len(StepStore.open(tmp_path / "data")) == 3

    def test_a_rescaling_that_fits_no_spec_is_counted_too(self, tmp_path):
        def rescale(actions):
            ends = actions["terminate_episode"]
            return {**actions, "terminate_episode": ends * (actions["world_vector"][0, 0] < 0.9)}

        builder_dir = odd_rlds(
            tmp_path / "rlds", set_in_steps("action/world_vector", np.float32([0.95, 0, 0]))
        )
        dataset = dataclasses.replace(oxe.get(FRACTAL), rt1_x=rescale)
        options = {"dataset": dataset, "scale": "rt1_x", "max_damaged": 0.3}
        report = run(builder_dir, tmp_path / "data", **options)
        assert report.left_out == {"malformed action": 1}

    def test_frames_of_two_sizes(self, tmp_path):
        small_frame = encode_image(np.zeros((64, 64, 3), np.uint8), "jpeg")
        builder_dir = odd_rlds(tmp_path / "rlds", set_in_steps("observation/image", small_frame))
        with pytest.raises(DatasetError, match=r"wrong frame size.*--image_size"):
            run(builder_dir, tmp_path / "data")
        report = run(builder_dir, tmp_path / "resized", image_size=(32, 40))
        assert report.episodes == 4

    def test_actions_beyond_their_bounds(self, tmp_path):
        builder_dir = odd_rlds(
            tmp_path / "rlds", set_in_steps("action/world_vector", np.float32([1.5, 0, 0]))
        )
        with pytest.raises(DatasetError, match=r"25.0% of world_vector lie beyond.*max_clipped"):
            run(builder_dir, tmp_path / "data")
        report = run(builder_dir, tmp_path / "data", max_clipped=0.5)
        assert report.clipped["world_vector"] == 0.25
        statistics = StepStore.open(tmp_path / "data").description["action_statistics"]
        assert statistics["world_vector"]["clipped"] == [0.25, 0.0, 0.0]

    def test_one_instruction_with_two_embeddings(self, tmp_path):
        def change(number, episode):
            for step in episode["steps"]:
                step["observation"]["natural_language_instruction"] = "same"
                step["observation"]["natural_language_embedding"] = np.full(
                    512, number == 3, np.float32
                )

        report = run(odd_rlds(tmp_path / "rlds", change, shards=2), tmp_path / "data")
        assert report.embedding_conflicts == 1


class TestDamagedFiles:
    @pytest.fixture
    def copy(self, fractal, tmp_path):
        import shutil

        return pathlib.Path(shutil.copytree(fractal, tmp_path / "copy"))

    def test_a_corrupt_record_is_passed_over_and_named(self, copy, tmp_path):
        file = sorted(copy.glob("*tfrecord*"))[1]
        content = bytearray(file.read_bytes())
        content[500] ^= 1
        file.write_bytes(content)
        with pytest.raises(DatasetError, match=r"corrupt record.*checksum"):
            run(copy, tmp_path / "data")
        report = run(copy, tmp_path / "data", max_damaged=0.2)
        assert report.left_out == {"corrupt record": 1}
        assert file.name in report.examples[0]
        assert report.episodes == 5

    def test_a_truncated_file_counts_what_is_missing(self, copy, tmp_path):
        file = sorted(copy.glob("*tfrecord*"))[0]
        file.write_bytes(file.read_bytes()[:800])
        report = run(copy, tmp_path / "data", max_damaged=0.5)
        assert report.left_out == {"corrupt record": 2}
        assert report.episodes == 4

    def test_nothing_usable(self, copy, tmp_path):
        for file in copy.glob("*tfrecord*"):
            file.write_bytes(file.read_bytes()[:20])
        with pytest.raises(DatasetError, match="no frame at 'observation/image'"):
            run(copy, tmp_path / "data", max_damaged=1.0)

    def test_a_missing_file(self, copy, tmp_path):
        sorted(copy.glob("*tfrecord*"))[2].unlink()
        with pytest.raises(DatasetError, match="No such file"):
            run(copy, tmp_path / "data")
        assert not list((tmp_path / "data").glob("shard-00002*"))


class TestBadRequests:
    def test_a_directory_above_the_version(self, fractal, tmp_path):
        with pytest.raises(DatasetError, match=rf"is it .*{fractal.name}"):
            run(fractal.parent, tmp_path / "data")

    def test_a_schema_without_the_key(self, tmp_path):
        features = {**rlds_schemas.schema(FRACTAL)}
        steps = {**features["steps"]}
        steps["observation"] = {
            ("images" if key == "image" else key): value
            for key, value in steps["observation"].items()
        }
        features["steps"] = steps
        builder_dir = rlds.write_rlds(tmp_path / "rlds", FRACTAL, 1, features=features)
        with pytest.raises(ValueError, match=r"observation/image.*observation/images"):
            run(builder_dir, tmp_path / "data")
        assert not (tmp_path / "data").exists()

    def test_another_split(self, fractal, tmp_path):
        with pytest.raises(DatasetError, match=r"no split 'test', only \['train'\]"):
            run(fractal, tmp_path / "data", split="test")

    def test_an_output_of_another_import(self, fractal, tmp_path):
        run(fractal, tmp_path / "data", episodes=2)
        with pytest.raises(DatasetError, match="episodes=2, asked for 0"):
            run(fractal, tmp_path / "data")
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "notes.txt").write_text("mine")
        with pytest.raises(DatasetError, match="not an unfinished dataset"):
            run(fractal, tmp_path / "other")

    def test_a_bucket_without_credentials(self, tmp_path, monkeypatch):
        import tensorflow_datasets as tfds

        def refuse(directory):
            raise PermissionError("401 Anonymous caller does not have storage.objects.get access")

        monkeypatch.setattr(tfds, "builder_from_directory", refuse)
        with pytest.raises(DatasetError, match=r"401 Anonymous.*application-default login"):
            run("gs://some-bucket/fractal/0.1.0", tmp_path / "data")

    @pytest.mark.parametrize("scale", ["rt1-x", "RT1_X", ""])
    def test_actions_of_no_known_scale(self, fractal, tmp_path, scale):
        with pytest.raises(DatasetError, match=f"actions '{scale}'.*'physical', 'rt1_x'"):
            run(fractal, tmp_path / "data", scale=scale)
        assert not (tmp_path / "data").exists()

    def test_files_of_another_dataset_of_the_registry(self, tmp_path):
        builder_dir = rlds.write_rlds(tmp_path / "rlds", "bridge", 1)
        with pytest.raises(ValueError, match=r"'bridge'.*'toto'.*--dataset=bridge"):
            run(builder_dir, tmp_path / "data", dataset=oxe.get("toto"))
        assert not (tmp_path / "data").exists()
        # What one describes oneself is for any files.
        mine = dataclasses.replace(oxe.get("toto"), name="mine")
        assert run(builder_dir, tmp_path / "data", dataset=mine).episodes == 1

    def test_files_of_an_unknown_name(self, tmp_path):
        features = rlds_schemas.schema("toto")
        builder_dir = rlds.write_rlds(tmp_path / "rlds", "my_pouring", 1, features=features)
        options = {"dataset": oxe.get("toto"), "max_clipped": 1.0}
        assert run(builder_dir, tmp_path / "data", **options).episodes == 1

    def test_a_camera_that_is_no_encoded_picture(self, tmp_path):
        features = rlds_schemas.schema(FRACTAL)
        features["steps"]["observation"]["image"] = ("uint8", (8, 10, 3))

        def make(number):
            episode = rlds.make_episode(FRACTAL, number, 2)
            for step in episode["steps"]:
                step["observation"]["image"] = np.zeros((8, 10, 3), np.uint8)
            return episode

        builder_dir = rlds.write_rlds(
            tmp_path / "rlds", FRACTAL, 1, features=features, episode_fn=make
        )
        with pytest.raises(
            DatasetError,
            match=r"'observation/image' is uint8 \[8, 10, 3\].*expected an encoded picture",
        ):
            run(builder_dir, tmp_path / "data")

    def test_less_than_no_episodes(self, fractal, tmp_path, capsys):
        flags = [f"--builder_dir={fractal}", f"--dataset={FRACTAL}", f"--output={tmp_path / 'd'}"]
        assert main([*flags, "--episodes=-5"]) == 1
        assert "--episodes=-5: expected a number of episodes, or 0" in capsys.readouterr().err

    def test_no_published_normalisation(self, tmp_path):
        dataset = dataclasses.replace(oxe.get(FRACTAL), rt1_x=None)
        builder_dir = rlds.write_rlds(tmp_path / "rlds", FRACTAL, 1)
        with pytest.raises(DatasetError, match="no published RT-1-X"):
            run(builder_dir, tmp_path / "data", dataset=dataset, scale="rt1_x")
