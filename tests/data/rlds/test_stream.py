import itertools
import json
import pathlib
import shutil

import numpy as np
import pytest
import rlds

from rt1_jax.data import oxe
from rt1_jax.data.loader import WindowSource
from rt1_jax.data.rlds.convert import Frames
from rt1_jax.data.rlds.importer import import_rlds
from rt1_jax.data.rlds.source import RLDSSource
from rt1_jax.data.rlds.stream import RLDSStream
from rt1_jax.data.shards import DatasetError
from rt1_jax.data.store import StepStore

NAME = "fractal20220817_data"
IMAGE = Frames("jpeg", (256, 320))


@pytest.fixture(scope="module")
def builder_dir(tmp_path_factory) -> pathlib.Path:
    """150 episodes, more than two blocks, with few distinct frames."""
    pool = [rlds.make_episode(NAME, number, 4) for number in range(3)]

    def make(number):
        steps = []
        for t, step in enumerate(pool[number % 3]["steps"]):
            action = {**step["action"], "world_vector": np.float32([number / 200, t / 10, 0])}
            steps.append({**step, "action": action})
        return {**pool[0], "steps": steps}

    directory = tmp_path_factory.mktemp("rlds")
    return rlds.write_rlds(directory, NAME, episodes=150, episode_fn=make, shards=4)


def stream(builder_dir, **options):
    options = {"frames": 3, "seed": 1, "image": IMAGE, **options}
    return RLDSStream(oxe.get(NAME), RLDSSource.open(builder_dir), **options)


def ids(windows):
    return [window["actions"]["world_vector"][:, :2].tobytes() for window in windows]


def test_every_window_once_an_epoch(builder_dir):
    windows = iter(stream(builder_dir))
    first, second = (ids(itertools.islice(windows, 300)) for _ in range(2))
    assert len(set(first)) == 300
    assert set(first) == set(second)
    assert first != second


@pytest.mark.parametrize("batch", [0, 5])
@pytest.mark.parametrize("taken", [0, 3, 50, 130])
def test_a_resumed_stream_is_the_uninterrupted_one(builder_dir, batch, taken):
    def windows():
        return iter(stream(builder_dir).batch(batch) if batch else stream(builder_dir))

    first, again = windows(), windows()
    for _ in range(taken // max(batch, 1)):
        next(first)
    position = json.loads(json.dumps(first.get_state()))
    want = ids(itertools.islice(first, 20))
    again.set_state(position)
    assert ids(itertools.islice(again, 20)) == want


def test_windows_are_those_of_an_import(builder_dir, tmp_path):
    import_rlds(oxe.get(NAME), builder_dir, tmp_path / "data", progress=False)
    store = StepStore.open(tmp_path / "data")
    source = WindowSource(store, 3)
    imported = {key: source[i] for i, key in enumerate(ids(source[i] for i in range(len(source))))}
    for window in itertools.islice(iter(stream(builder_dir)), 20):
        want = imported[ids([window])[0]]
        assert window.keys() == want.keys()
        for key in ("images", "embedding", "mask"):
            np.testing.assert_array_equal(window[key], want[key])


def test_hosts_share_the_files(builder_dir):
    seen = []
    for host in range(2):
        windows = iter(stream(builder_dir, process_index=host, process_count=2))
        mine = ids(itertools.islice(windows, 150))
        seen += set(mine)
    # Files are of 37 or 38 episodes: hosts have a little more or less than half.
    assert len(set(seen)) >= 296
    with pytest.raises(DatasetError, match="4 files, too few for 8 processes"):
        stream(builder_dir, process_index=7, process_count=8)


def test_another_encoder_and_size(builder_dir):
    import small

    encoder = small.HashEncoder()
    image = Frames("jpeg", (64, 80), resize=True)
    window = next(iter(stream(builder_dir, encoder=encoder, image=image)))
    assert window["images"].shape == (3, 64, 80, 3)
    texts = encoder.embed(rlds.INSTRUCTIONS)
    assert any(np.array_equal(window["embedding"], row) for row in texts)


def test_damage_is_named_and_limited(builder_dir, tmp_path, capsys):
    copy = pathlib.Path(shutil.copytree(builder_dir, tmp_path / "copy"))
    file = sorted(copy.glob("*tfrecord*"))[2]
    content = bytearray(file.read_bytes())
    content[500] ^= 1
    file.write_bytes(content)
    windows = iter(stream(copy))
    assert len(set(ids(itertools.islice(windows, 298)))) == 298
    assert f"{file.name}, record 0, is left out: corrupt record" in capsys.readouterr().err
    with pytest.raises(DatasetError, match=r"\d of \d+ episodes are damaged"):
        list(itertools.islice(iter(stream(copy, max_damaged=0.001)), 300))


def clipped_rlds(directory, share, episodes=120):
    """Of which a share of all steps is beyond fractal's bounds of ±1, a step of some episodes."""

    def make(number):
        episode = rlds.make_episode(NAME, number % 3, 2)
        beyond = int(share * 2 * (number + 1)) > int(share * 2 * number)
        for t, step in enumerate(episode["steps"]):
            x = 1.5 if beyond and t == 0 else number / episodes
            step["action"]["world_vector"] = np.float32([x, 0, 0])
        return episode

    return rlds.write_rlds(directory, NAME, episodes, episode_fn=make, shards=2)


class TestClippedActions:
    def test_what_is_clipped_is_told_and_given(self, tmp_path, capsys):
        builder_dir = clipped_rlds(tmp_path, 0.025)
        windows = iter(stream(builder_dir, frames=2))
        found = list(itertools.islice(windows, 200))
        # After two blocks, which are the epoch.
        told = "2.50% of world_vector beyond the bounds, clipped when tokenised (120 episodes)"
        assert f"{NAME}: {told}" in capsys.readouterr().err
        assert max(window["actions"]["world_vector"].max() for window in found) == 1.5
        # Nothing new, nothing more said.
        list(itertools.islice(windows, 300))
        assert capsys.readouterr().err == ""

    def test_too_much_is_refused_as_an_import_refuses_it(self, tmp_path):
        builder_dir = clipped_rlds(tmp_path, 0.1)
        with pytest.raises(DatasetError, match=r"10.0% of world_vector lie beyond the bounds"):
            import_rlds(oxe.get(NAME), builder_dir, tmp_path / "data", progress=False)
        windows = iter(stream(builder_dir, frames=2))
        list(itertools.islice(windows, 60))  # too few are known
        with pytest.raises(
            DatasetError,
            match=r"10.0% of world_vector lie beyond the bounds, more than max_clipped=0.05 .*"
            r"data.rlds.registry.*--max_clipped",
        ):
            list(itertools.islice(windows, 60))
        assert len(list(itertools.islice(iter(stream(builder_dir, max_clipped=0.2)), 300))) == 300

    def test_physical_units_count(self, tmp_path):
        # RT-1-X's rescaling of bridge clips what it gives.
        def make(number):
            episode = rlds.make_episode("bridge", number % 3, 2)
            for step in episode["steps"]:
                step["action"]["world_vector"] = np.float32([0.2, 0, 0])
            return episode

        builder_dir = rlds.write_rlds(tmp_path, "bridge", 120, episode_fn=make)
        source, image = RLDSSource.open(builder_dir), Frames("jpeg", (480, 640))
        windows = RLDSStream(
            oxe.get("bridge"), source, frames=2, seed=0, image=image, scale="rt1_x"
        )
        with pytest.raises(DatasetError, match=r"100.0% of world_vector lie beyond the bounds"):
            list(itertools.islice(iter(windows), 120))

    def test_the_position_stays_a_few_numbers(self, builder_dir):
        windows = iter(stream(builder_dir))
        list(itertools.islice(windows, 200))
        state = windows.get_state()
        assert set(state) == {"epoch", "file", "record", "given", "seen", "damaged", "used"}
        assert all(isinstance(value, int) for value in state.values())


@pytest.mark.parametrize("scale", ["physical", "rt1_x"])
def test_a_malformed_action_is_not_trained_on(tmp_path, capsys, scale):
    def make(number):
        episode = rlds.make_episode(NAME, number, 3)
        for step in episode["steps"]:
            step["action"]["world_vector"] = np.float32([number / 10, 0, 0])
        if number == 1:
            episode["steps"][1]["action"]["terminate_episode"] = np.int32([0, 0, 0])
        return episode

    builder_dir = rlds.write_rlds(tmp_path, NAME, 4, episode_fn=make)
    found = list(itertools.islice(iter(stream(builder_dir, scale=scale)), 30))
    numbers = {round(10 * float(w["actions"]["world_vector"][0, 0])) for w in found}
    assert numbers == {0, 2, 3}
    error = capsys.readouterr().err
    assert "record 1, is left out: malformed action: action field 'terminate_episode'" in error
    assert "vector 1 is [0.0, 0.0, 0.0]" in error


def test_what_does_not_fit_is_refused_at_once(builder_dir, tmp_path):
    with pytest.raises(DatasetError, match=r"actions 'rt1-x'.*'physical', 'rt1_x'"):
        stream(builder_dir, scale="rt1-x")
    with pytest.raises(oxe.OXEError, match=rf"'{NAME}'.*'toto'.*data.rlds.dataset"):
        RLDSStream(oxe.get("toto"), RLDSSource.open(builder_dir), frames=3, seed=1, image=IMAGE)


def test_no_usable_episode(tmp_path):
    def silent(number):
        episode = rlds.make_episode(NAME, number, 3)
        for step in episode["steps"]:
            step["observation"]["natural_language_instruction"] = ""
        return episode

    builder_dir = rlds.write_rlds(tmp_path / "rlds", NAME, 2, episode_fn=silent)
    with pytest.raises(DatasetError, match="can be used"):
        next(iter(stream(builder_dir)))
