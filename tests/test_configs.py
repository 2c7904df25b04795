"""The files of configs/: that they load, agree with each other, and say what they promise."""

import importlib.util

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from rt1_jax.analysis import scaling
from rt1_jax.analysis.experiment import seeded_runs, training_config
from rt1_jax.analysis.variants import VARIANTS
from rt1_jax.models import registry
from rt1_jax.training.optimizer import make_schedule

# Every file that makes a config for train.py, with all its arguments; `None` where it takes none.
TRAINING = {
    "tabletop": (None,),
    "rt1": (None,),
    "rt1_x": (None,),
    "bc_z": ("paper", "xl", "tabletop"),
    "gato": ("paper", "tabletop"),
    "ablations": tuple(f"{base}/{v}" for base in ("rt1", "tabletop") for v in VARIANTS),
}
CASES = [(name, argument) for name, arguments in TRAINING.items() for argument in arguments]


def load(root, name, argument=None):
    path = root / "configs" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"config_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, module.get_config(*([] if argument is None else [argument]))


def flat(tree, prefix=""):
    if isinstance(tree, dict):
        return {k: v for key, x in tree.items() for k, v in flat(x, f"{prefix}{key}.").items()}
    return {prefix[:-1]: tree}


def parameter_count(config: ConfigDict) -> int:
    model = registry.build(config.architecture, config.model.to_dict())
    part = config.model.get("image_tokenizer") or config.model.get("patches") or config.model
    height, width = part.image_size
    images = jax.ShapeDtypeStruct((1, config.model.frames, height, width, 3), np.uint8)
    embeddings = jax.ShapeDtypeStruct((1, config.model.embedding_size), np.float32)
    told = {}
    if config.architecture == "gato":
        told["action_tokens"] = jax.ShapeDtypeStruct((1, config.model.frames, 11), np.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images, embeddings, **told)
    return sum(x.size for x in jax.tree.leaves(shapes["params"]))


def test_tabletop_differs_from_rt1_by_numbers_only(repository_root):
    small, full = (flat(load(repository_root, n)[1].to_dict()) for n in ("tabletop", "rt1"))
    assert small.keys() == full.keys()
    # What an accelerator is asked for, the small one on a CPU is not.
    named = {"name", "data.directory", "step.compute", "step.batch_statistics", "step.remat"}
    for key in small.keys() - named:
        if isinstance(small[key], str):
            assert small[key] == full[key], key
        if key.endswith("stages"):
            assert all(row.keys() == full[key][0].keys() for row in small[key])


def test_rt1_has_the_size_of_the_original(repository_root):
    assert parameter_count(load(repository_root, "rt1")[1]) == 35_120_544


def test_rt1_x_has_the_size_of_the_original_and_differs_from_rt1_by_the_model(repository_root):
    config = load(repository_root, "rt1_x")[1]
    assert parameter_count(config) == 56_896_809
    ours, base = (flat(c.to_dict()) for c in (config, load(repository_root, "rt1")[1]))
    differing = {key for key in ours if ours[key] != base[key]}
    assert {key for key in differing if not key.startswith("model.")} == {"name", "data.directory"}
    assert config.model.frames == 15


def test_tabletop_is_small_enough_to_ship(repository_root):
    count = parameter_count(load(repository_root, "tabletop")[1])
    assert 100_000 < count < 1_200_000  # float32, 5 MB


@pytest.mark.parametrize("name", ["tabletop", "rt1", "rt1_x"])
def test_a_config_opens_with_its_command_and_has_a_schedule(repository_root, name):
    module, config = load(repository_root, name)
    assert f"python train.py --config=configs/{name}.py --workdir=" in module.__doc__
    schedule = make_schedule(config.optimizer)
    peak = config.optimizer.warmup_steps
    np.testing.assert_allclose(float(schedule(peak)), config.optimizer.learning_rate, rtol=1e-6)
    end = float(schedule(config.optimizer.steps))
    np.testing.assert_allclose(end, config.optimizer.final_learning_rate, rtol=1e-4)


def test_every_file_is_tested(repository_root):
    files = {path.stem for path in (repository_root / "configs").glob("*.py")}
    assert files - {"__init__"} == {*TRAINING, "experiments"}


@pytest.mark.parametrize(("name", "argument"), CASES)
def test_a_training_config_agrees_with_tabletop_but_for_the_model(repository_root, name, argument):
    config = load(repository_root, name, argument)[1]
    keys, base = (
        {key for key in flat(c.to_dict()) if not key.startswith("model.")}
        for c in (config, load(repository_root, "tabletop")[1])
    )
    assert keys == base
    # What the model is told has as many numbers as it expects; the encoder's own are 512.
    assert config.model.embedding_size == (config.data.embedding_components or 512)
    assert config.model.frames >= 1
    registry.build(config.architecture, config.model.to_dict())


def test_names_tell_the_configs_apart(repository_root):
    names = {}
    for name, argument in CASES:
        config = load(repository_root, name, argument)[1]
        names.setdefault(config.name, []).append((name, argument))
    again = {"rt1": [("rt1", None), ("ablations", "rt1/rt1")]}
    again["tabletop"] = [("tabletop", None), ("ablations", "tabletop/rt1")]
    assert {name: of for name, of in names.items() if len(of) > 1} == again


@pytest.mark.parametrize(
    ("name", "argument", "told"),
    [
        ("bc_z", "huge", r"bc_z.py:huge: expected one of \['paper', 'xl', 'tabletop'\]"),
        ("gato", "xl", r"gato.py:xl: expected one of \['paper', 'tabletop'\]"),
        ("experiments", "big", r"expected one of \['small', 'all_skills', 'accelerator'"),
        ("ablations", "gato/rt1", r"expected BASE/VARIANT, BASE of \['rt1', 'tabletop'\]"),
        ("ablations", "rt1/no_eyes", r"unknown variant 'no_eyes': expected one of \["),
    ],
)
def test_an_unknown_argument_is_answered_with_what_there_is(repository_root, name, argument, told):
    with pytest.raises(ValueError, match=told):
        load(repository_root, name, argument)


@pytest.mark.parametrize(
    ("name", "argument", "low", "high"),
    [
        ("gato", "paper", 0.9 * 37e6, 1.1 * 37e6),
        ("bc_z", "xl", 0.9 * 35_120_544, 1.1 * 35_120_544),
        ("bc_z", "paper", 11e6, 16e6),
    ],
)
def test_baselines_have_the_sizes_of_the_paper(repository_root, name, argument, low, high):
    assert low < parameter_count(load(repository_root, name, argument)[1]) < high


def experiment_runs(preset):
    """Every run that the four experiments of a preset ask for."""
    runs = [run for group in scaling.build_runs(preset).values() for run in group]
    for experiment in (preset.decoding, preset.film_ablation):
        for variant in experiment.variants:
            config = training_config(preset, variant=variant)
            runs += seeded_runs(preset, config, seeds=experiment.seeds)
    for model in preset.baselines.models:
        runs += seeded_runs(preset, training_config(preset, model), preset.baselines.splits)
    for variant in preset.baselines.variants:
        config = training_config(preset, "rt1", variant)
        runs += seeded_runs(preset, config, preset.baselines.splits)
    return runs


@pytest.mark.parametrize("name", ["small", "all_skills", "accelerator", "smoke"])
def test_runs_of_a_preset_build_and_have_names_of_their_own(repository_root, name):
    preset = load(repository_root, "experiments", name)[1]
    assert preset.preset == name
    runs = experiment_runs(preset)
    distinct = {}
    for run in runs:
        free = ("log_every", "checkpoint_every", "keep_checkpoints", "loader")
        kept = {key: value for key, value in run.config.to_dict().items() if key not in free}
        assert distinct.setdefault(run.name, kept) == kept
    contents = {repr(sorted(flat(kept).items())) for kept in distinct.values()}
    assert len(contents) == len(distinct)
    for config in {run.name: run.config for run in runs}.values():
        registry.build(config.architecture, config.model.to_dict())
        assert config.model.embedding_size == (config.data.embedding_components or 512)
        assert config.data.directory == preset.data.directory
        assert config.data.validation_episodes < preset.data.episodes
        schedule = make_schedule(config.optimizer)
        assert np.isfinite(float(schedule(config.optimizer.steps)))
    held_back = preset.models.rt1.data.validation_episodes
    assert max(preset.scaling.episodes) == preset.data.episodes - held_back


def test_names_of_the_small_presets_runs_stay(repository_root):
    """Finished runs are found by them."""
    preset = load(repository_root, "experiments", "small")[1]
    names = {run.name for run in experiment_runs(preset)}
    assert {"tabletop-s0-f1ac1127ca", "tabletop_no_language-s0-eb306022f2"} <= names
    assert {"bc_z_tabletop-s1-4a739d32ac", "gato_tabletop-s0-d89435b776"} <= names
    assert len(names) == 36
