"""What is in a dataset: numbers by hand, oddities, files, and the command around them."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
from small import HashEncoder, make_dataset, make_episode

from rt1_jax.actions import TABLETOP
from rt1_jax.data import inspect, step_sample
from rt1_jax.data.finish import finish_dataset
from rt1_jax.data.shards import DatasetError, EpisodeWriter
from rt1_jax.data.step_sample import sample_actions
from rt1_jax.data.store import StepStore
from rt1_jax.data.summary import summarise
from rt1_jax.data.summary_charts import film_strip
from rt1_jax.data.summary_report import evenly_spread
from rt1_jax.data.summary_text import format_summary

STEPS = 27


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> pathlib.Path:
    return make_dataset(tmp_path_factory.mktemp("data") / "data")


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> pathlib.Path:
    """Four episodes with something odd about each."""
    directory = tmp_path_factory.mktemp("odd")
    path = directory / "shard-00000.array_record"
    writer = EpisodeWriter(path, "png", TABLETOP)
    for seed, text in enumerate(("Find red", "find  red", "find blue", "find blue")):
        episode = make_episode(seed, length=1 if seed == 2 else 4)
        episode.instruction = text
        episode.actions["rotation_delta"][:, 1] = 0.25
        episode.actions["world_vector"][0, 2] = 0.2  # of ±0.05
        episode.actions["terminate_episode"][:] = (0, 1, 0)
        writer.add(episode)
    writer.close()
    finish_dataset(
        directory, [path], action_spec=TABLETOP, frame_rate=0.0, source={}, encoder=HashEncoder()
    )
    return directory


def test_a_sample_of_all_is_the_dataset(dataset):
    store = StepStore.open(dataset)
    found = sample_actions(store, 1000)
    for name, values in found.items():
        expected = np.concatenate([store.read(i).actions[name] for i in range(len(store))])
        np.testing.assert_array_equal(values, expected)


def test_a_sample_is_of_distinct_steps_each_as_likely(dataset, monkeypatch):
    monkeypatch.setattr(step_sample, "_AT_ONCE", 2)
    store = StepStore.open(dataset)
    every = sample_actions(store, STEPS)["rotation_delta"][:, 0]
    seen = np.zeros(STEPS, int)
    for seed in range(60):
        rows = sample_actions(store, 9, seed)["rotation_delta"][:, 0]
        places = [int(np.flatnonzero(every == row)[0]) for row in rows]
        assert places == sorted(set(places))
        assert len(places) == 9
        seen[places] += 1
    assert seen.min() > 5  # 20 expected
    assert seen.max() < 40


def test_numbers_by_hand(dataset):
    store = StepStore.open(dataset)
    summary = summarise(store)
    assert (summary["episodes"], summary["steps"]) == (6, STEPS)
    assert summary["hours"] == pytest.approx(STEPS / 3 / 3600)
    assert summary["sample"] == {"steps": STEPS, "of": STEPS, "seed": 0}
    assert summary["from_sample"] == ["histogram"]
    lengths = summary["lengths"]
    assert (lengths["min"], lengths["median"], lengths["max"], lengths["mean"]) == (2, 4.5, 7, 4.5)
    assert lengths["histogram"] == {"edges": [*range(2, 9)], "counts": [1] * 6}
    assert summary["bytes"] == sum(p.stat().st_size for p in dataset.glob("*.array_record"))
    values = sample_actions(store, STEPS)["world_vector"][:, 1]
    y = summary["fields"]["world_vector"]["elements"]["world_vector/y"]
    assert y["mean"] == pytest.approx(values.mean(), abs=1e-7)
    assert y["max"] == pytest.approx(values.max(), abs=1e-7)
    assert y["clipped"] == 0
    assert sum(y["histogram"]["counts"]) == STEPS
    told = summary["instructions"]
    assert sum(count for _, count in told["most_common"]) == 6
    assert told["distinct"] == len(told["most_common"])
    assert [o["kind"] for o in summary["oddities"]] == []
    json.dumps(summary, allow_nan=False)


def test_an_older_dataset_gets_its_quantiles_from_the_sample(dataset):
    store = StepStore.open(dataset)
    whole = summarise(store)["fields"]["world_vector"]["elements"]
    for rows in store.description["action_statistics"].values():
        for key in ("q01", "q50", "q99", "clipped"):
            rows.pop(key, None)
    summary = summarise(store, sample=20)
    assert summary["from_sample"] == ["clipped", "histogram", "q01", "q50", "q99"]
    assert "of 20 sampled steps, since this older dataset" in format_summary(summary)
    found = summary["fields"]["world_vector"]["elements"]
    assert found["world_vector/y"]["mean"] == whole["world_vector/y"]["mean"]
    assert found["world_vector/y"]["q99"] == pytest.approx(whole["world_vector/y"]["q99"], rel=0.5)


def test_oddities(odd):
    summary = summarise(StepStore.open(odd))
    found = {oddity["kind"]: oddity for oddity in summary["oddities"]}
    assert set(found) == {"one_step", "never_chosen", "clipped", "still", "near_duplicate"}
    assert found["one_step"]["examples"] == [2]
    assert found["clipped"]["examples"] == ["world_vector/z"]
    assert "30.8% of the steps" in found["clipped"]["text"]  # 4 of 13
    assert "never moves from 0.25: rotation_delta/pitch" in found["still"]["text"]
    assert found["near_duplicate"]["examples"] == [["Find red", "find  red"]]
    assert summary["hours"] is None
    text = format_summary(summary)
    assert "1 episode of one step" in text
    assert "(such as 'Find red' and 'find  red')" in text


def test_an_empty_instruction_is_told(odd):
    store = StepStore.open(odd)
    store.instructions[0] = " "  # the writer refuses it: other tools may not
    kinds = {o["kind"]: o["text"] for o in summarise(store)["oddities"]}
    assert kinds["empty_instruction"] == "1 episode with an empty instruction"


def test_a_strip_has_the_first_and_the_last_frame(dataset):
    store = StepStore.open(dataset)
    strip = np.asarray(film_strip(store, 1, frames=3, height=16))
    images = store.read(1).images
    assert strip.shape == (16, 3 * 20 + 2 * 3, 3)
    np.testing.assert_array_equal(strip[:, :20], images[0])
    np.testing.assert_array_equal(strip[:, -20:], images[-1])


def test_evenly_spread():
    assert evenly_spread(100, 4) == [0, 25, 50, 75]
    assert evenly_spread(2, 6) == [0, 1]


def test_the_command(dataset, tmp_path, capsys):
    assert inspect.main([str(dataset), f"--output={tmp_path}", "--episodes=1,4", "--top=1"]) == 0
    told = capsys.readouterr().out
    assert "steps an episode  " in told
    assert "world_vector/x" in told
    assert "and 1 more" in told
    assert json.loads((tmp_path / "summary.json").read_text())["episodes"] == 6
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 2
    assert "episode 4, " in page
    assert {p.name for p in tmp_path.iterdir()} == {
        *("summary.json", "report.html", "episode-1.png", "episode-4.png"),
        *("fields.png", "fields.svg", "lengths.png", "lengths.svg"),
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}"], "has no dataset.json"),
        (["{tmp}/nothing"], "no dataset directory"),
        (["{data}", "--episodes=6"], "expected numbers from 0 to 5"),
        (["{data}", "--episodes=x"], "--episodes=x"),
        (["{data}", "--sample=0"], "--sample=0: expected at least 1"),
    ],
)
def test_what_is_not_there_is_told_in_a_line(dataset, tmp_path, capsys, arguments, message):
    assert inspect.main([a.format(tmp=tmp_path, data=dataset) for a in arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert message in told.err
    assert told.err.startswith("inspect: ")
    assert told.err.count("\n") == 1


def test_damage_names_the_shard(tmp_path):
    dataset = make_dataset(tmp_path / "data")
    path = dataset / "shard-00001.array_record"
    data = bytearray(path.read_bytes())
    start = data.find(b"\x89PNG")
    data[start - 40 : start + 200] = bytes(240)
    path.write_bytes(bytes(data))
    with pytest.raises(DatasetError, match="shard-00001"):
        sample_actions(StepStore.open(dataset), STEPS)
