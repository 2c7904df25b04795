import dataclasses
import json

import numpy as np
import pytest

from rt1_jax.data import generate as module
from rt1_jax.data.generate import generate, main
from rt1_jax.data.generation_plan import GenerationError, Plan, make_plan
from rt1_jax.data.shards import DatasetError
from rt1_jax.data.store import StepStore
from rt1_jax.language import EncoderIdentity

PLAN = Plan("tabletop", 5, "seen", ("pick", "move_near"), (16, 16), 0.01, 7, "png", 2)


class CountingEncoder:
    """Embeds a sentence as its length."""

    identity = EncoderIdentity("stored:test", 2, ())

    def embed(self, instructions):
        return np.array([[len(text), 1.0] for text in instructions], np.float32)


def make(plan, output, **kwargs):
    return generate(plan, output, encoder=CountingEncoder(), progress=False, **kwargs)


def content(directory):
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    directory = tmp_path_factory.mktemp("generated") / "data"
    return directory, make(PLAN, directory)


def test_the_dataset_opens_and_holds_what_was_asked_for(dataset):
    directory, counts = dataset
    store = StepStore.open(directory)
    assert len(store) == counts["kept"] == 5
    assert store.lengths.sum() == counts["steps"]
    assert store.image_size == (16, 16)
    assert store.description["frame_rate"] == 3.0
    source = store.description["source"]
    assert source["seed"] == 7
    assert source["dropped"] == counts["dropped"]
    for episode in range(5):
        steps = store.read(episode)
        words = steps.actions["terminate_episode"]
        assert words[-1].tolist() == [1, 0, 0]  # a success, and the expert said so
        assert words[0].tolist() == [0, 1, 0]
    assert {m["skill"] for m in store.metadata()} <= {"pick", "move_near"}


def test_recorded_actions_are_the_experts_own(dataset):
    from rt1_jax import envs

    directory, _ = dataset
    store = StepStore.open(directory)
    seed = store.metadata()[0]["seed"]
    env = envs.make("tabletop", skills=PLAN.skills, image_size=PLAN.image_size)
    expert = envs.make_expert(env, PLAN.noise)
    observation, _ = env.reset(seed=seed)
    recorded = store.read(0)
    assert observation["instruction"] == recorded.instruction
    differs = False
    for t in range(len(recorded)):
        np.testing.assert_array_equal(observation["image"], recorded.images[t])
        clean = expert.act()
        np.testing.assert_array_equal(clean["world_vector"], recorded.actions["world_vector"][t])
        executed = expert.perturb(clean)
        differs |= not np.array_equal(executed["world_vector"], clean["world_vector"])
        observation, *_ = env.step(executed)
    assert differs
    env.close()


def test_two_processes_give_the_same_bytes(dataset, tmp_path):
    directory, counts = dataset
    assert make(PLAN, tmp_path / "again", processes=2) == counts
    assert content(tmp_path / "again") == content(directory)


def test_an_interruption_leaves_nothing_whole_and_a_second_run_continues(
    dataset, tmp_path, monkeypatch
):
    directory, counts = dataset
    output = tmp_path / "data"
    real, made = module.record_episode, []

    def interrupted(env, expert, seed):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(seed)
        return real(env, expert, seed)

    monkeypatch.setattr(module, "record_episode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(PLAN, output)
    with pytest.raises(DatasetError, match=r"no dataset\.json"):
        StepStore.open(output)
    assert not list(output.glob("*partial*"))
    kept = {path.name: path.stat().st_mtime_ns for path in output.glob("*.array_record")}
    assert len(kept) == 1
    monkeypatch.setattr(module, "record_episode", real)
    assert make(PLAN, output) == counts
    assert content(output) == content(directory)
    for name, time in kept.items():
        assert (output / name).stat().st_mtime_ns == time


def test_failures_are_dropped_and_counted(tmp_path, monkeypatch):
    real, calls = module.record_episode, []

    def every_second(env, expert, seed):
        calls.append(seed)
        return None if len(calls) % 2 else real(env, expert, seed)

    monkeypatch.setattr(module, "record_episode", every_second)
    plan = dataclasses.replace(PLAN, episodes=2, skills=("pick",))
    counts = make(plan, tmp_path / "data")
    assert counts["kept"] == 2
    assert counts["dropped"] == 2
    assert len(set(calls)) == 4


def test_an_expert_that_always_fails_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "record_episode", lambda env, expert, seed: None)
    with pytest.raises(GenerationError, match=r"failed in 21 of 21 .*lower the noise"):
        make(PLAN, tmp_path / "data")
    assert not list((tmp_path / "data").glob("shard*"))


def test_seeds_do_not_repeat():
    seeds = {module._episode_seed(s, shard, i) for s in (0, 1) for shard in (0, 1) for i in (0, 1)}
    assert len(seeds) == 8
    assert min(seeds) > 1_000_000  # apart from the small seeds that evaluations use


def test_another_plan_in_the_same_directory_is_refused(dataset):
    directory, _ = dataset
    before = content(directory)
    with pytest.raises(GenerationError, match=r"seed=7, asked for 8"):
        make(dataclasses.replace(PLAN, seed=8), directory)
    assert content(directory) == before


def test_a_directory_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(GenerationError, match="choose another --output"):
        make(PLAN, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--split=sene"], "unknown split 'sene'"),
        (["--skills=pick,pik"], "unknown skill 'pik'"),
        (["--env=kitchen"], "unknown environment 'kitchen'"),
        (["--episodes=0"], "--episodes=0"),
        (["--image_size=64"], "expected height,width"),
        (["--image_size=64x64"], "expected height,width"),
        (["--noise=2"], "--noise=2.0"),
        (["--processes=0"], "--processes=0"),
        (["--encoder=word2vec"], "word2vec"),
    ],
)
def test_bad_flags_are_one_line(tmp_path, capsys, flags, message):
    assert main([f"--output={tmp_path / 'data'}", *flags]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "data" / "dataset.json").exists()


def test_frames_up_to_128_pixels_are_png_and_larger_ones_jpeg():
    assert make_plan(image_size=(128, 128)).image_format == "png"
    assert make_plan(image_size=(256, 320)).image_format == "jpeg"


def test_plans_are_plain_json():
    assert json.loads(json.dumps(PLAN.to_json()))["skills"] == ["pick", "move_near"]
