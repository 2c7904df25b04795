"""The experiments on runs that are made up: numbers, sentences, files, and what is missing."""

import json
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest
from fabricated import write_run

from configs import experiments
from rt1_jax.analysis import baselines, decoding, experiment, film_ablation, scaling, sweep
from rt1_jax.analysis.experiment import ExperimentError, Rate, ensure_data, seeded_runs
from rt1_jax.evaluation.metrics import wilson_interval

SPLITS = ("seen", "unseen_tasks")
KINDS = ("seen", "unseen_tasks", "unseen_objects", "distractors", "backgrounds")
MS = {"rt1": 0.7, "bc_z": 0.9, "gato": 6.2, "lesson": 0.5, "autoregressive": 2.1, "continuous": 0.6}


@pytest.fixture
def preset(monkeypatch):
    """Two seeds, twenty episodes a split; nothing is trained, generated or timed."""

    def fail(run, root, cores, children):
        (root / run.name).mkdir(parents=True, exist_ok=True)
        (root / run.name / "log.txt").write_text("step 1\nOSError: the disk is full\n")

    def times(finished, runs):
        return {name: MS[name] for name, of in finished.items() if of}

    def held_out(results, runs):
        field = {"mean_absolute_error": [0.004, 0.005, 0.006]}
        return [
            {"token_accuracy": 0.6 + 0.1 * r.run.config.seed, "fields": {"world_vector": field}}
            for r in results
        ]

    monkeypatch.setattr(sweep, "_execute", fail)
    monkeypatch.setattr(experiment, "ensure_data", lambda *arguments: None)
    monkeypatch.setattr(baselines, "step_times", times)
    monkeypatch.setattr(decoding, "step_times", times)
    monkeypatch.setattr(decoding, "_held_out", held_out)
    monkeypatch.setattr(
        decoding, "full_size_milliseconds", lambda: {"rt1": 20.0, "autoregressive": 50.0}
    )
    config = experiments.get_config("smoke")
    config.seeds = config.decoding.seeds = config.film_ablation.seeds = (0, 1)
    config.evaluation.episodes = 20
    config.baselines.variants = ("lesson",)
    config.parallel = 1
    return config


def fabricate(root, runs, successes):
    """`successes`: {split: of 20, by the first seed}; the second seed has one more."""
    for run in runs:
        own = run.config.seed
        write_run(root, run, lambda split, condition, own=own: (
            successes[split] + own if condition == "policy" else 1
        ))  # fmt: skip


def analyse(module, preset, tmp_path, figures):
    output, had_tensorflow = tmp_path / "out", "tensorflow" in sys.modules  # by an earlier test
    content = module.analyse(preset, output, tmp_path / "runs")
    names = {f"{stem}.{kind}" for stem in figures for kind in ("png", "svg")}
    assert {path.name for path in output.iterdir()} == names | {"results.json", "report.html"}
    assert json.loads((output / "results.json").read_text()) == content
    assert ("tensorflow" in sys.modules) == had_tensorflow
    return content, (output / "report.html").read_text()


def pooled(first):
    wins = 2 * first + 1
    return {
        "successes": wins,
        "episodes": 40,
        "rate": wins / 40,
        "interval": list(wilson_interval(wins, 40)),
        "seeds": [first / 20, (first + 1) / 20],
    }


GROWTH = {10: 2, 20: 6, 30: 10, 50: 17}


def fabricate_scaling(preset, root, leave=()):
    for name, runs in scaling.build_runs(preset).items():
        first = GROWTH.get(int(name.split()[0]), 0) if name.endswith(" episodes") else 4
        kept = [run for run in runs if (name, run.config.seed) not in leave]
        fabricate(root, kept, {"seen": first, "unseen_tasks": first // 2})


def test_scaling_pools_seeds_fits_curves_and_answers(preset, tmp_path):
    fabricate_scaling(preset, tmp_path / "runs")
    content, page = analyse(scaling, preset, tmp_path, ("data_size", "tasks"))
    results = content["results"]
    for size, first in GROWTH.items():
        assert results["data_size"]["seen"][str(size)] == pooled(first)
        assert results["data_size"]["unseen_tasks"][str(size)] == pooled(first // 2)
    assert results["tasks"]["seen"]["0.5"] == pooled(4)
    assert [*results["tasks"]["seen"]] == ["1.0", "0.5", "0.375"]
    for split in SPLITS:
        for curve in ("power law", "logistic"):
            assert results["fits"][split][curve]["dispersion"]["degrees"] == 4
            assert results["fits"][split][curve]["parameters"][1] > 0
    assert len(results["runs"]["10 episodes"]) == 2
    assert content["summary"][0].startswith("seen tasks: ")
    assert "a power law of the failure rate (exponent " in content["summary"][0]
    tasks = "100% of the tasks 22%, 50% of the tasks 22%, 37.5% of the tasks 22%."
    assert content["summary"][2] == f"seen tasks, 15 episodes each: {tasks}"
    assert not any("missing" in note for note in content["notes"])
    assert "12% [5%, 26%] (10, 15)" in page  # 5 of 40


def test_scaling_names_a_missing_run_and_draws_the_rest(preset, tmp_path):
    fabricate_scaling(preset, tmp_path / "runs", leave={("30 episodes", 1)})
    content, page = analyse(scaling, preset, tmp_path, ("data_size", "tasks"))
    (run,) = (r for r in scaling.build_runs(preset)["30 episodes"] if r.config.seed == 1)
    note = content["notes"][0]
    assert note.startswith("30 episodes, seed 1, is missing: OSError: the disk is full (")
    assert f"{run.name}/log.txt" in note
    assert "OSError: the disk is full" in page
    assert content["results"]["data_size"]["seen"]["30"]["seeds"] == [0.5]
    assert content["results"]["data_size"]["seen"]["50"] == pooled(17)
    assert len(content["results"]["fits"]) == 2


def test_scaling_with_too_few_sizes_says_so_instead_of_a_fit(preset, tmp_path):
    leave = {(f"{size} episodes", seed) for size in (20, 30) for seed in (0, 1)}
    fabricate_scaling(preset, tmp_path / "runs", leave)
    content, page = analyse(scaling, preset, tmp_path, ("data_size", "tasks"))
    assert content["results"]["fits"] == {}
    told = [note for note in content["notes"] if "no curve" in note]
    assert told[0] == (
        "seen tasks: no curve, a curve needs runs of at least 3 different numbers of episodes, "
        "there are 2: [10, 50]."
    )
    assert len(told) == 2
    assert content["results"]["data_size"]["seen"]["20"]["rate"] is None
    assert "missing" in page


def film_runs(preset):
    return {
        name: seeded_runs(preset, experiment.training_config(preset, variant=name))
        for name in preset.film_ablation.variants
    }


def test_film_ablation_compares_ways_and_objects(preset, tmp_path):
    for name, runs in film_runs(preset).items():
        fabricate(tmp_path / "runs", runs, {"seen": 17 if name == "rt1" else 4, "unseen_tasks": 3})
    content, page = analyse(film_ablation, preset, tmp_path, ("success", "targets"))
    results = content["results"]
    assert results["success"]["rt1"]["seen/policy"] == pooled(17)
    assert results["success"]["no_language"]["seen/policy"] == pooled(4)
    wrong = results["success"]["rt1"]["unseen_tasks/wrong_instruction"]
    assert (wrong["successes"], wrong["episodes"]) == (2, 40)
    targets = results["targets"]["rt1"]
    assert sorted(targets) == ["blue can", "green can", "orange can", "red can"]
    assert [of["episodes"] for of in targets.values()] == [10] * 4
    assert sum(of["successes"] for of in targets.values()) == 35
    assert content["summary"][0] == (
        "seen: FiLM after every block 88%, FiLM at the end only 22%, instruction as a token 22%, "
        "no instruction 22%."
    )
    assert "173,544" in page


def test_film_ablation_of_several_skills_tells_them_apart(preset, tmp_path):
    preset.data.skills = ("pick", "open_drawer")
    for runs in film_runs(preset).values():
        fabricate(tmp_path / "runs", runs, {"seen": 10, "unseen_tasks": 3})
    content, page = analyse(film_ablation, preset, tmp_path, ("success", "skills"))
    skills = content["results"]["skills"]["rt1"]
    assert [*skills] == ["open_drawer", "pick"]
    assert [of["episodes"] for of in skills.values()] == [20, 20]
    assert sum(of["successes"] for of in skills.values()) == 21
    assert "by skill" in page


def test_film_ablation_without_one_way(preset, tmp_path):
    for name, runs in film_runs(preset).items():
        if name != "film_end":
            fabricate(tmp_path / "runs", runs, {"seen": 10, "unseen_tasks": 3})
    content, _ = analyse(film_ablation, preset, tmp_path, ("success", "targets"))
    assert content["summary"][0].endswith("; missing: FiLM at the end only.")
    assert content["results"]["targets"]["film_end"] == {}
    assert [n.split(" is missing")[0] for n in content["notes"][:2]] == [
        "film_end, seed 0,",
        "film_end, seed 1,",
    ]


def baseline_runs(preset):
    runs = {name: experiment.training_config(preset, name) for name in preset.baselines.models}
    runs["lesson"] = experiment.training_config(preset, "rt1", "lesson")
    return {name: seeded_runs(preset, config, KINDS) for name, config in runs.items()}


def test_baselines_stand_beside_the_papers(preset, tmp_path):
    for k, (name, runs) in enumerate(baseline_runs(preset).items()):
        if name != "gato":
            fabricate(
                tmp_path / "runs", runs, {kind: 16 - 3 * i - k for i, kind in enumerate(KINDS)}
            )
    content, page = analyse(baselines, preset, tmp_path, ("baselines",))
    results = content["results"]
    assert results["success"]["rt1"]["seen"] == pooled(16)
    assert results["success"]["bc_z"]["backgrounds"] == pooled(3)
    assert results["success"]["gato"]["seen"]["episodes"] == 0
    assert results["wrong_instruction"]["bc_z"]["successes"] == 2
    assert results["parameters"] == dict.fromkeys(("rt1", "bc_z", "lesson"), 173_544)
    assert results["step_ms"] == {name: MS[name] for name in ("rt1", "bc_z", "lesson")}
    assert content["summary"][0] == (
        "seen: RT-1 82%, BC-Z 78%, the lesson's model 68%; missing: Gato."
    )
    assert "1,200,000,000" in page  # Gato in the lesson's table
    assert sum("gato, seed" in note for note in content["notes"]) == 2


def test_decoding_tells_tokens_and_milliseconds(preset, tmp_path):
    for name in ("rt1", "autoregressive"):
        config = experiment.training_config(preset, variant=name)
        wins = {"seen": 18, "unseen_tasks": 12}
        fabricate(tmp_path / "runs", seeded_runs(preset, config), wins)
    content, page = analyse(decoding, preset, tmp_path, ("decoding",))
    results = content["results"]
    assert results["success"]["autoregressive"]["unseen_tasks"] == pooled(12)
    np.testing.assert_allclose(results["token_accuracy"]["rt1"]["mean"], 0.65)
    half = 12.706 * 0.1 / 2  # Student's t with one degree of freedom, two seeds 0.1 apart
    np.testing.assert_allclose(results["token_accuracy"]["rt1"]["low"], 0.65 - half, atol=1e-4)
    np.testing.assert_allclose(results["translation_error"]["rt1"]["mean"], 0.005)
    assert results["step_ms"] == {"rt1": 0.7, "autoregressive": 2.1}
    assert content["summary"][0] == (
        "parallel (RT-1): seen 92%, unseen tasks 62%; 65.0% of held-out tokens right; "
        "0.7 ms a step."
    )
    assert content["summary"][2] == "continuous: missing."
    assert "2.5 times as long" in content["summary"][3]
    assert "nan" not in page.lower().replace("finance", "")


@pytest.mark.parametrize("module", [scaling, film_ablation, baselines, decoding])
def test_without_any_run_there_is_no_report(preset, tmp_path, module):
    with pytest.raises(ExperimentError, match="no run came to its end: .*the disk is full"):
        module.analyse(preset, tmp_path / "out", tmp_path / "runs")
    assert not (tmp_path / "out").exists()


def test_a_rate_in_words():
    assert Rate(29, 40, (0.7, 0.75)).text() == "72% [57%, 84%] (70, 75)"
    assert Rate(0, 0, ()).text() == "missing"


def test_the_preset_must_name_keys_that_there_are(preset):
    preset.train.optimizer.stepz = 3
    with pytest.raises(ExperimentError, match="has no key 'stepz'"):
        experiment.training_config(preset)


@pytest.fixture
def data(tmp_path):
    config = experiments.get_config("smoke").data
    config.directory = str(tmp_path / "data")
    return config


def describe(data, episodes, image_size, **source):
    path = pathlib.Path(data.directory) / "dataset.json"
    path.parent.mkdir()
    content = {"episodes": episodes, "image_size": image_size, "source": source}
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    "source",
    [{"env": "tabletop", "split": "seen", "skills": ["pick"], "seed": 0}, {"made": "elsewhere"}],
)
def test_data_of_the_right_size_are_kept(data, source):
    describe(data, 150, [64, 64], **source)
    ensure_data(data)


@pytest.mark.parametrize(
    ("episodes", "image_size", "told"),
    [(20, [64, 64], "20 episodes of 64 x 64"), (150, [32, 48], "150 episodes of 32 x 48")],
)
def test_other_data_are_not_trained_on(data, episodes, image_size, told):
    describe(data, episodes, image_size)
    with pytest.raises(ExperimentError, match=f"holds {told} pixels, the preset needs 150 episod"):
        ensure_data(data)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({"skills": ["pick", "move_near"], "seed": 0}, "skills ['pick', 'move_near']"),
        ({"skills": ["pick"], "seed": 1}, "seed 1"),
        ({"skills": ["pick"], "seed": 0, "split": "unseen_tasks"}, "split 'unseen_tasks'"),
    ],
)
def test_data_of_other_skills_or_seeds_are_not_trained_on(data, source, told):
    """Of the right size: nothing else tells them apart, and a run's config names neither."""
    describe(data, 150, [64, 64], **source)
    with pytest.raises(ExperimentError) as caught:
        ensure_data(data)
    key = told.split()[0]
    needed = {"skills": "['pick']", "seed": "0", "split": "'seen'"}[key]
    assert f"holds data of {told}, the preset needs {needed}: remove it, or" in str(caught.value)
    assert "--config.data.directory" in str(caught.value)


def test_a_damaged_description_is_named(data):
    describe(data, 150, [64, 64]).write_text("{")
    with pytest.raises(ExperimentError, match=r"dataset\.json is damaged"):
        ensure_data(data)


def test_a_generation_that_fails_gives_its_last_words_and_command(data, monkeypatch):
    def failing(command, **options):
        assert command[1:3] == ["-m", "rt1_jax.data.generate"]
        return types.SimpleNamespace(returncode=1, stderr="warning\nGenerationError: no disk\n")

    monkeypatch.setattr(subprocess, "run", failing)
    with pytest.raises(ExperimentError, match="failed: GenerationError: no disk") as caught:
        ensure_data(data, progress=False)
    for part in ("--episodes=150", f"--output={data.directory}", "--skills=pick", "=64,64"):
        assert part in str(caught.value)
