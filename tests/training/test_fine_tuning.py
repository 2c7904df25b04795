"""Starting from another checkpoint: what is reused, what is adapted, and what is refused."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import original
import pytest
import recipe_checkpoints
import small
from flax import traverse_util

from rt1_jax.actions import TABLETOP
from rt1_jax.checkpoints import native, tf_writer
from rt1_jax.checkpoints.adam import AdamMoments
from rt1_jax.checkpoints.loaded import RT1_ENCODER
from rt1_jax.language import EncoderIdentity
from rt1_jax.models.bc_z import BCZConfig
from rt1_jax.training.fine_tuning import FineTuningError, read_start, with_start
from rt1_jax.training.frozen import trained_part
from rt1_jax.training.loop import train
from rt1_jax.training.optimizer import make_optimizer
from rt1_jax.training.start_state import continue_optimizer, put_into
from rt1_jax.training.state import TrainState

CONFIG = small.small_model(embedding_size=6)
POSITIONS = "params/transformer/position_embedding/kernel"


def flat(variables):
    return traverse_util.flatten_dict(variables, sep="/")


def fresh(config):
    return original.random_variables(config, seed=9)


def about(config, **changes):
    return dataclasses.replace(small.policy_description("rt1", config), **changes)


def spec_of(*names, bins=256):
    fields = tuple(field for field in TABLETOP.fields if field.name in names)
    return dataclasses.replace(TABLETOP, name="other", fields=fields, bins=bins)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("start") / "7"
    native.save_checkpoint(path, about(CONFIG, step=7), original.random_variables(CONFIG, 1))
    return path


@pytest.fixture(scope="module")
def start(checkpoint):
    return read_start(checkpoint)


def test_the_same_model_is_the_checkpoint_whole(start):
    tuned = with_start(fresh(CONFIG), start, about(CONFIG))
    want = original.random_variables(CONFIG, 1)
    assert flat(tuned.variables).keys() == flat(want).keys()
    for path, value in flat(tuned.variables).items():
        np.testing.assert_array_equal(value, flat(want)[path])
    assert tuned.report.everything_reused
    assert not tuned.report.unused
    assert not tuned.report.notes
    sums = tuned.report.counts()["all"]
    assert sums == {"reused": sum(v.size for v in flat(want).values()), "adapted": 0, "fresh": 0}


def test_other_bins_are_learned_anew(start):
    config = dataclasses.replace(CONFIG, bins=64)
    spec = dataclasses.replace(TABLETOP, bins=64)
    tuned = with_start(fresh(config), start, about(config, action_spec=spec))
    layer = "params/transformer/output_tokens"
    assert tuned.report.of("fresh") == [f"{layer}/bias", f"{layer}/kernel"]
    assert not tuned.report.of("adapted")
    given = flat(fresh(config))
    for name in ("bias", "kernel"):
        found = flat(tuned.variables)[f"{layer}/{name}"]
        np.testing.assert_array_equal(found, given[f"{layer}/{name}"])
    table = tuned.report.table()
    assert "fresh: transformer/output_tokens (1,088): shape [16, 256] there, [16, 64] here" in table
    assert "256 bins there, 64 here" in table


def test_a_layer_is_reused_whole_or_not_at_all(start):
    # The bias of the attention's output would fit, but its kernel does not.
    transformer = dataclasses.replace(CONFIG.transformer, key_dim=12)
    config = dataclasses.replace(CONFIG, transformer=transformer)
    tuned = with_start(fresh(config), start, about(config))
    why = {tensor.path: tensor.why for tensor in tuned.report.tensors}
    layer = "params/transformer/layer_1/attention/out"
    assert why[f"{layer}/kernel"] == "shape [2, 8, 16] there, [2, 12, 16] here"
    assert why[f"{layer}/bias"] == "as is its kernel"
    assert all("/attention/" in path for path in tuned.report.of("fresh"))


@pytest.mark.parametrize("frames", [2, 5])
def test_frames_are_matched_from_the_oldest(start, frames):
    config = dataclasses.replace(CONFIG, frames=frames)
    tuned = with_start(fresh(config), start, about(config))
    assert tuned.report.of("adapted") == [POSITIONS]
    assert not tuned.report.of("fresh")
    old = flat(start.variables)[POSITIONS].reshape(3, 13, 16)
    new = flat(tuned.variables)[POSITIONS].reshape(frames, 13, 16)
    for frame in range(frames):
        np.testing.assert_array_equal(new[frame], old[min(frame, 2)])
    assert f"3 frames there, {frames} here" in tuned.report.table()


def test_slots_are_matched_by_the_names_of_their_tokens(start):
    spec = spec_of("terminate_episode", "gripper_closedness_action")
    config = dataclasses.replace(CONFIG, action_tokens=2)
    tuned = with_start(fresh(config), start, about(config, action_spec=spec))
    old = flat(start.variables)[POSITIONS].reshape(3, 13, 16)
    new = flat(tuned.variables)[POSITIONS].reshape(3, 4, 16)
    # Two image tokens; the gripper's logits, token 7 there, are read at slot 6; the last slot.
    np.testing.assert_array_equal(new, old[:, [0, 1, 2 + 6, 2 + 10]])
    assert "action field 'world_vector' of the checkpoint is not" in tuned.report.table()


def test_a_token_that_is_new_has_fresh_places(start):
    fields = list(TABLETOP.fields)
    fields[3] = dataclasses.replace(fields[3], name="suction")
    spec = dataclasses.replace(TABLETOP, fields=tuple(fields))
    tuned = with_start(fresh(CONFIG), start, about(CONFIG, action_spec=spec))
    old = flat(start.variables)[POSITIONS].reshape(3, 13, 16)
    new = flat(tuned.variables)[POSITIONS].reshape(3, 13, 16)
    given = flat(fresh(CONFIG))[POSITIONS].reshape(3, 13, 16)
    np.testing.assert_array_equal(new[:, 2 + 6], given[:, 2 + 6])
    rest = np.delete(np.arange(13), 2 + 6)
    np.testing.assert_array_equal(new[:, rest], old[:, rest])
    assert "3 of 39 places fresh" in tuned.report.table()


def test_other_bounds_are_told(start):
    fields = list(TABLETOP.fields)
    fields[1] = dataclasses.replace(fields[1], low=(-1,) * 3, high=(1,) * 3)
    spec = dataclasses.replace(TABLETOP, fields=tuple(fields))
    tuned = with_start(fresh(CONFIG), start, about(CONFIG, action_spec=spec))
    assert tuned.report.everything_reused
    assert any("world_vector: high is 0.05 there, 1 here" in n for n in tuned.report.notes)


def test_another_number_of_layers(start):
    config = dataclasses.replace(
        CONFIG, transformer=dataclasses.replace(CONFIG.transformer, layers=3)
    )
    report = with_start(fresh(config), start, about(config)).report
    assert {path.split("/")[2] for path in report.of("fresh")} == {"layer_2"}
    assert "model.transformer.layers is 2 there, 3 here" in report.notes


def test_feature_map_tokens_keep_their_places():
    def with_size(size):
        tokenizer = dataclasses.replace(
            CONFIG.image_tokenizer, token_learner=None, image_size=(size, size)
        )
        return dataclasses.replace(CONFIG, image_tokenizer=tokenizer, frames=1)

    from rt1_jax.training.token_places import place_rows

    small_map, large_map = with_size(16), with_size(32)
    side = small_map.image_tokenizer.feature_size[0]
    assert large_map.image_tokenizer.feature_size[0] == 2 * side
    rows = place_rows((small_map, about(small_map)), (large_map, about(large_map)))
    grid = np.arange(side * side).reshape(side, side)
    image = rows[: 4 * side * side].reshape(2 * side, 2 * side)
    np.testing.assert_array_equal(image, grid.repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(rows[4 * side * side :], side * side + np.arange(11))


def test_the_statistics_are_the_checkpoints_where_it_is_listened_to(start):
    own = start.description.embedding_statistics
    tuned = with_start(fresh(CONFIG), start, about(CONFIG, embedding_statistics=None))
    assert tuned.statistics is own
    assert any("has its own statistics" in note for note in tuned.report.notes)
    config = dataclasses.replace(CONFIG, embedding_size=4)
    theirs = small.embedding_statistics(components=4)
    tuned = with_start(fresh(config), start, about(config, embedding_statistics=theirs))
    assert tuned.statistics is theirs
    assert all("film" in path for path in tuned.report.of("fresh"))


@pytest.fixture(scope="module")
def tf_checkpoint(tmp_path_factory):
    config = original.small_config()
    params = original.random_variables(config, 1)["params"]
    moments = AdamMoments(params, jax.tree.map(np.square, params), 1234, 1e-4)
    prefix = tmp_path_factory.mktemp("tf") / "ckpt-500"
    variables = original.random_variables(config)
    tf_writer.write_tf(prefix, config, variables, step=500, kind="tf_checkpoint", moments=moments)
    return config, variables, moments, prefix


def tf_run(config, start, **changes):
    """A run with RT-1's own conventions on data with the released models' encoder."""
    encoder = EncoderIdentity(RT1_ENCODER.name, config.embedding_size)
    description = dataclasses.replace(start.description, model=config.to_json(), encoder=encoder)
    return dataclasses.replace(description, **changes)


def test_from_a_tensorflow_checkpoint(tf_checkpoint):
    config, variables, _, prefix = tf_checkpoint
    start = read_start(prefix)
    tuned = with_start(fresh(config), start, tf_run(config, start))
    assert tuned.report.everything_reused
    for path, value in flat(tuned.variables).items():
        np.testing.assert_array_equal(value, flat(variables)[path])
    assert tuned.report.table().startswith("start from ckpt-500 (tf_checkpoint, step 500)")
    new = dataclasses.replace(config, bins=64, frames=4)
    spec = dataclasses.replace(start.description.action_spec, bins=64)
    report = with_start(fresh(new), start, tf_run(new, start, action_spec=spec)).report
    assert report.of("adapted") == [POSITIONS]
    assert {path.split("/")[2] for path in report.of("fresh")} == {"output_tokens"}


def test_from_a_saved_model_of_no_writer_of_ours(shared_dir, tmp_path):
    config = original.small_config()
    path = recipe_checkpoints.write(shared_dir, tmp_path, "tf_saved_model", config, seed=0)
    start = read_start(path)
    tuned = with_start(fresh(config), start, tf_run(config, start))
    assert tuned.report.everything_reused
    for name, value in flat(tuned.variables).items():
        np.testing.assert_array_equal(value, flat(start.variables)[name])


def train_state(variables, optimizer):
    return TrainState.create(jax.tree.map(jnp.asarray, variables), optimizer)


def test_adams_moments_of_a_tensorflow_training_go_on(tf_checkpoint):
    config, variables, moments, prefix = tf_checkpoint
    start = read_start(prefix)
    tuned = with_start(fresh(config), start, tf_run(config, start))
    state = put_into(train_state(fresh(config), optax.adam(1e-3)), tuned.variables)
    state = continue_optimizer(state, start, tuned.report)
    adam = state.opt_state[0]
    assert adam.count == 1234
    jax.tree.map(np.testing.assert_array_equal, adam.mu, moments.first)
    jax.tree.map(np.testing.assert_array_equal, state.params, variables["params"])
    # Of parts that are frozen the optimiser holds nothing.
    trained = trained_part(state.params, ("image_tokenizer",))
    state = state.replace(opt_state=optax.adam(1e-3).init(trained))
    state = continue_optimizer(state, start, tuned.report, ("image_tokenizer",))
    want = {"transformer": moments.second["transformer"]}
    jax.tree.map(np.testing.assert_array_equal, state.opt_state[0].nu, want)


def test_a_native_runs_optimizer_goes_on_and_its_schedule_begins_anew(tmp_path):
    settings = small.small_config("data").optimizer
    settings.muon_rms = 0.0
    optimizer = make_optimizer(settings)

    @jax.jit
    def step(state):
        grads = jax.tree.map(jnp.ones_like, state.params)
        return state.advance(grads, state.batch_stats, optimizer, 0.9)

    state = train_state(original.random_variables(CONFIG, 1), optimizer)
    for _ in range(3):
        state = step(state)
    path = tmp_path / "run" / "checkpoints" / "3"
    native.save_checkpoint(path, about(CONFIG, step=3), state.average, training=state)
    start = read_start(tmp_path / "run")
    tuned = with_start(fresh(CONFIG), start, about(CONFIG))
    new = put_into(train_state(fresh(CONFIG), optimizer), tuned.variables)
    jax.tree.map(np.testing.assert_array_equal, new.params, state.average["params"])
    new = continue_optimizer(new, start, tuned.report)
    assert new.step == 0
    jax.tree.map(np.testing.assert_array_equal, new.params, state.params)
    jax.tree.map(np.testing.assert_array_equal, new.average, state.average)
    is_schedule = lambda node: isinstance(node, optax.ScaleByScheduleState)
    pairs = zip(
        jax.tree.leaves(new.opt_state, is_leaf=is_schedule),
        jax.tree.leaves(state.opt_state, is_leaf=is_schedule),
        strict=True,
    )
    seen = 0
    for found, want in pairs:
        if is_schedule(want):
            assert (found.count, want.count) == (0, 3)
            seen += 1
        else:
            np.testing.assert_array_equal(found, want)
    assert seen


def test_the_state_has_buffers_of_its_own(start):
    optimizer = optax.sgd(1.0)
    tuned = with_start(fresh(CONFIG), start, about(CONFIG))
    state = put_into(train_state(fresh(CONFIG), optimizer), tuned.variables)
    before = flat(start.variables)[POSITIONS].copy()

    def step(state):
        grads = jax.tree.map(jnp.ones_like, state.params)
        return state.advance(grads, state.batch_stats, optimizer, 0.9)

    state = jax.jit(step, donate_argnums=0)(state)
    np.testing.assert_array_equal(flat(start.variables)[POSITIONS], before)
    kernel = state.params["transformer"]["position_embedding"]["kernel"]
    np.testing.assert_allclose(kernel, before - 1, rtol=1e-6)


def test_what_has_no_optimizer_or_other_tensors_is_named(start):
    state = train_state(fresh(CONFIG), optax.adam(1e-3))
    whole = with_start(fresh(CONFIG), start, about(CONFIG)).report
    with pytest.raises(FineTuningError, match="7 holds no state of an optimiser: set --config.s"):
        continue_optimizer(state, start, whole)
    config = dataclasses.replace(CONFIG, frames=4)
    partly = with_start(fresh(config), start, about(config)).report
    with pytest.raises(FineTuningError, match="1 tensors are not 7's, the first is 'params/tran"):
        continue_optimizer(state, start, partly)


def changed_tokenizer(**changes):
    tokenizer = dataclasses.replace(CONFIG.image_tokenizer, **changes)
    return dataclasses.replace(CONFIG, image_tokenizer=tokenizer)


def test_what_cannot_be_is_refused(start):
    with pytest.raises(FineTuningError, match="is of architecture 'rt1', this run of 'bc_z'"):
        with_start(
            fresh(CONFIG), start, small.policy_description("bc_z", BCZConfig(embedding_size=6))
        )
    other = EncoderIdentity("stored:other", 512)
    with pytest.raises(FineTuningError, match="another encoder's embeddings .*'stored:hash'"):
        with_start(fresh(CONFIG), start, about(CONFIG, encoder=other))
    net = dataclasses.replace(CONFIG.image_tokenizer.efficientnet, padding="same")
    config = changed_tokenizer(efficientnet=net)
    flag = "--config.model.image_tokenizer.efficientnet.padding="
    with pytest.raises(FineTuningError, match=f"other conventions.* set {flag}"):
        with_start(fresh(config), start, about(config))
    transformer = dataclasses.replace(CONFIG.transformer, heads=4, key_dim=12, d_model=24)
    config = dataclasses.replace(CONFIG, transformer=transformer, bins=64)
    with pytest.raises(
        FineTuningError, match=r"nothing of its transformer fits .*d_model is 16 there and 24 here"
    ):
        with_start(fresh(config), start, about(config))


def test_a_run_that_starts_from_another(tmp_path, capsys):
    """By the loop: what is reused is printed and recorded; what is frozen stays as it was."""
    dataset = small.make_dataset(tmp_path / "data")
    first = small.small_config(dataset, steps=4)
    train(first, tmp_path / "first", progress=False)
    config = small.small_config(dataset, steps=4)
    config.start.checkpoint = str(tmp_path / "first")
    config.frozen = ("image_tokenizer",)
    config.data.travel_repeats = 1
    config.loss.field_weights = (("world_vector", 2.0),)
    config.loss.label_smoothing = 0.1
    train(config, tmp_path / "second", progress=True)
    printed = capsys.readouterr().out
    assert "start from first/checkpoints/4 (native" in printed
    assert "frozen: image_tokenizer;" in printed
    before, after = (
        native.load_variables(tmp_path / name / "checkpoints" / "4") for name in ("first", "second")
    )
    same = jax.tree.map(
        np.array_equal, before["params"]["image_tokenizer"], after["params"]["image_tokenizer"]
    )
    assert all(jax.tree.leaves(same))
    jax.tree.map(np.testing.assert_array_equal, before["batch_stats"], after["batch_stats"])
    kernel = "output_tokens"
    trained = [v["params"]["transformer"][kernel]["kernel"] for v in (before, after)]
    assert (trained[0] != trained[1]).any()
    source = native.read_description(tmp_path / "second" / "checkpoints" / "4").source
    assert source["start"].startswith("first/checkpoints/4 (native")
    config.loss.field_weights = (("gripper", 2.0),)
    with pytest.raises(ValueError, match="gripper"):
        train(config, tmp_path / "third", progress=False)
