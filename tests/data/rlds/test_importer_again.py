"""An import that is run again: finished, interrupted, or with another encoder or description."""

import dataclasses
import json
import sys
import textwrap

import numpy as np
import pytest
import rlds
import small
from rlds_imports import FRACTAL, files_of, run

from rt1_jax.data import oxe
from rt1_jax.data.import_rlds import main
from rt1_jax.data.rlds import importer
from rt1_jax.data.shards import DatasetError
from rt1_jax.data.store import StepStore


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
