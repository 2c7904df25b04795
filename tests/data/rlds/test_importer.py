import dataclasses
import json
import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import rlds
import rlds_schemas
import small

from rt1_jax.actions import RT1_X
from rt1_jax.data import oxe
from rt1_jax.data.encoded import image_header
from rt1_jax.data.episode import encode_image
from rt1_jax.data.import_rlds import main
from rt1_jax.data.oxe import registry
from rt1_jax.data.rlds import importer
from rt1_jax.data.rlds.importer import import_rlds
from rt1_jax.data.shards import DatasetError, ShardReader
from rt1_jax.data.store import StepStore

FRACTAL = "fractal20220817_data"


@pytest.fixture(autouse=True)
def _forget_own(monkeypatch):
    monkeypatch.setattr(registry, "_own", {})


@pytest.fixture(scope="module")
def fractal(tmp_path_factory) -> pathlib.Path:
    """Six episodes of four steps in three files."""
    directory = tmp_path_factory.mktemp("rlds")
    return rlds.write_rlds(directory, FRACTAL, episodes=6, steps=4, shards=3)


def run(builder_dir, output, **options):
    options = {"dataset": oxe.get(FRACTAL), "progress": False, **options}
    return import_rlds(options.pop("dataset"), builder_dir, output, **options)


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


def files_of(root):
    return {path.name: path.read_bytes() for path in root.iterdir()}


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


class TestRunAgain:
    """What is finished is not made again, and what goes on needs no luck."""

    @pytest.mark.parametrize("link", [False, True])
    def test_a_finished_import_gives_its_report(self, fractal, tmp_path, link):
        report = run(fractal, tmp_path / "data", link=link)
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").iterdir()}
        assert run(fractal, tmp_path / "data", link=link) == report
        after = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").iterdir()}
        assert after == before

    def test_another_encoder_and_back(self, fractal, tmp_path):
        root = tmp_path / "data"
        run(fractal, root)
        whole = files_of(root)
        shards = {path: path.stat().st_mtime_ns for path in root.glob("shard-*")}
        run(fractal, root, encoder=small.HashEncoder())
        store = StepStore.open(root)
        assert store.encoder.name == "stored:hash"
        text = store.instructions[store.instruction_ids[4]]
        want = small.HashEncoder().embed([text])[0]
        np.testing.assert_array_equal(store.embedding(4), want)
        run(fractal, root)
        assert files_of(root) == whole
        assert {path: path.stat().st_mtime_ns for path in root.glob("shard-*")} == shards

    def test_stored_vectors_after_an_encoder_from_the_start(self, fractal, tmp_path):
        run(fractal, tmp_path / "data", encoder=small.HashEncoder())
        run(fractal, tmp_path / "data")
        run(fractal, tmp_path / "plain")
        assert files_of(tmp_path / "data") == files_of(tmp_path / "plain")

    @pytest.mark.parametrize("kept", [0, 1, 2])
    def test_interrupted_while_the_shards_embeddings_go(self, tmp_path, monkeypatch, kept):
        def make(number):  # each with an instruction of its own
            episode = rlds.make_episode(FRACTAL, number, 3)
            for step in episode["steps"]:
                step["observation"]["natural_language_instruction"] = f"task {number}"
            return episode

        builder_dir = rlds.write_rlds(tmp_path / "rlds", FRACTAL, 3, episode_fn=make, shards=3)
        real, calls = importer.embeddings_path, []

        def interrupted(path):
            calls.append(path)
            if len(calls) > kept:
                raise KeyboardInterrupt
            return real(path)

        with monkeypatch.context() as patch:
            patch.setattr(importer, "embeddings_path", interrupted)
            with pytest.raises(KeyboardInterrupt):
                run(builder_dir, tmp_path / "data")
        assert len(list((tmp_path / "data").glob("*.embeddings.npz"))) == 3 - kept
        # Whatever is asked for next, all instructions are known.
        run(builder_dir, tmp_path / "data", encoder=small.HashEncoder())
        report = run(builder_dir, tmp_path / "data")
        assert report == run(builder_dir, tmp_path / "plain")
        assert files_of(tmp_path / "data") == files_of(tmp_path / "plain")

    def test_embeddings_that_are_gone_are_named_by_shard(self, fractal, tmp_path):
        root = tmp_path / "data"
        run(fractal, root)
        for name in ("stored_embeddings.npz", "dataset.json"):
            (root / name).unlink()
        with pytest.raises(
            DatasetError,
            match=r"3 of the shards: delete shard-00000-of-00003.array_record, .*again",
        ):
            run(fractal, root)
        for path in root.glob("shard-*.array_record"):
            path.unlink()
        run(fractal, root)
        run(fractal, tmp_path / "plain")
        assert files_of(root) == files_of(tmp_path / "plain")

    def test_a_full_disk_at_the_end_of_embedding_anew(self, fractal, tmp_path, monkeypatch):
        from rt1_jax.data import finish

        root = tmp_path / "data"
        run(fractal, root)
        real = finish.write_atomically

        def full(path, *rest):
            if path.name == "dataset.json":
                raise OSError(28, "No space left on device")
            real(path, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(finish, "write_atomically", full)
            with pytest.raises(OSError, match="No space"):
                run(fractal, root, encoder=small.HashEncoder())
        with pytest.raises(DatasetError, match="interrupted"):
            StepStore.open(root)
        run(fractal, root)
        assert StepStore.open(root).encoder.name.startswith("tfhub:")


class TestAnotherDescription:
    def test_of_ones_own_file(self, fractal, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        file, root = tmp_path / "mine.py", tmp_path / "data"
        text = textwrap.dedent(
            f"""
            import dataclasses
            from rt1_jax.data import oxe

            base = oxe.get("{FRACTAL}")
            spec = oxe.dataset_spec("mine", world_vector=(-1.0, 1.0))

            def mapping(steps):
                actions = base.mapping(steps)
                return {{**actions, "world_vector": actions["world_vector"] / 2}}

            DATASETS = [dataclasses.replace(base, name="mine", action_spec=spec, mapping=mapping)]
            """
        )

        def command(text):
            file.write_text(text)
            flags = [f"--registry={file}", "--dataset=mine", f"--builder_dir={fractal}"]
            return main([*flags, f"--output={root}", "--processes=1"])

        assert command(text) == 0
        before = files_of(root)
        assert command(text) == 0
        capsys.readouterr()
        # Other bounds and another mapping: the shards would be of one, dataset.json of the other.
        assert command(text.replace("-1.0, 1.0", "-2.0, 2.0")) == 1
        error = capsys.readouterr().err
        assert "description.action_spec.fields.world_vector.high=[1.0, 1.0, 1.0]" in error
        assert "asked for [2.0, 2.0, 2.0]: choose another --output or delete it" in error
        assert command(text.replace("/ 2", "/ 4")) == 1
        assert "description.code.mine.py=" in capsys.readouterr().err
        assert files_of(root) == before

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"frame_rate": 7.0}, "description.frame_rate=3.0, asked for 7.0"),
            ({"mapping": lambda steps: oxe.get(FRACTAL).mapping(steps)}, "description.code."),
        ],
    )
    def test_of_another_release(self, fractal, tmp_path, change, named):
        run(fractal, tmp_path / "data")
        dataset = dataclasses.replace(oxe.get(FRACTAL), **change)
        with pytest.raises(DatasetError, match=named):
            run(fractal, tmp_path / "data", dataset=dataset)

    def test_what_an_older_version_has_finished_still_opens(self, fractal, tmp_path):
        root = tmp_path / "data"
        run(fractal, root)
        # As it left a directory: nothing of the description, and no gathered embeddings.
        mark = json.loads((root / "import.json").read_text())
        del mark["description"], mark["link"]
        (root / "import.json").write_text(json.dumps(mark))
        (root / "stored_embeddings.npz").unlink()
        assert len(StepStore.open(root)) == 6
        with pytest.raises(DatasetError, match=r"begun by an older version.*'description'"):
            run(fractal, root)
        assert len(StepStore.open(root)) == 6


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


def odd_rlds(directory, change, episodes=4, shards=1, name=FRACTAL):
    """Episodes of which `change(number, episode)` has had its way with."""

    def make(number):
        episode = rlds.make_episode(name, number, 3)
        return change(number, episode) or episode

    return rlds.write_rlds(directory, name, episodes, episode_fn=make, shards=shards)


def set_in_steps(path, value):
    def change(number, episode):
        if number == 1:
            for step in episode["steps"]:
                part = step
                *parents, last = path.split("/")
                for key in parents:
                    part = part[key]
                part[last] = value

    return change


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
