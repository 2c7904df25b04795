import dataclasses

import numpy as np
import pytest

from rt1_jax import envs
from rt1_jax.actions import TABLETOP
from rt1_jax.envs.expert import DEFAULT_NOISE
from rt1_jax.envs.tasks import SKILLS, STEP_LIMITS


@pytest.fixture(scope="module")
def env():
    env = envs.make("tabletop", image_size=(16, 16))
    yield env
    env.close()


def run(env, skill, seed, noise=0.0, without_base=False):
    """Success and the actions of one episode."""
    expert = envs.make_expert(env, noise)
    env.reset(seed=seed, options={"skill": skill})
    done, actions = False, []
    while not done:
        action = expert.act()
        TABLETOP.validate(action)
        actions.append(action)
        executed = expert.perturb(action)
        if without_base:
            executed = {
                k: np.zeros_like(v) if k.startswith("base") else v for k, v in executed.items()
            }
        _, _, terminated, truncated, _ = env.step(executed)
        done = terminated or truncated
    return terminated, actions


@pytest.mark.parametrize("skill", SKILLS)
def test_every_skill_is_done_in_good_time(env, skill):
    results = [run(env, skill, seed) for seed in range(5)]
    assert all(success for success, _ in results)
    assert np.mean([len(actions) for _, actions in results]) < STEP_LIMITS[skill] / 2


@pytest.mark.parametrize("skill", SKILLS)
def test_noise_is_recovered_from(env, skill):
    assert sum(run(env, skill, seed, DEFAULT_NOISE)[0] for seed in range(100, 104)) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, DEFAULT_NOISE])
@pytest.mark.parametrize("skill", SKILLS)
def test_at_least_95_percent_of_200_episodes(env, skill, noise):
    assert sum(run(env, skill, seed, noise)[0] for seed in range(200)) >= 190


@pytest.mark.parametrize("skill", ["open_drawer", "close_drawer"])
def test_the_drawer_cannot_be_reached_without_the_base(env, skill):
    assert not any(run(env, skill, seed, without_base=True)[0] for seed in range(2))


@pytest.mark.parametrize("skill", ["pick", "move_near", "upright"])
def test_the_base_stands_still_where_it_is_not_needed(env, skill):
    _, actions = run(env, skill, 0)
    for action in actions:
        assert not np.any(action["base_displacement_vector"])
        assert not np.any(action["base_displacement_vertical_rotation"])


def test_some_seeds_need_a_turn_of_the_base(env):
    turns = [
        max(abs(a["base_displacement_vertical_rotation"][0]) for a in run(env, "open_drawer", s)[1])
        for s in range(4)
    ]
    assert max(turns) > 0.1


def test_success_is_answered_by_standing_still_and_terminate(env):
    _, actions = run(env, "pick", 1)
    words = [bool(action["terminate_episode"][0]) for action in actions]
    assert words == [False] * (len(words) - 2) + [True, True]
    assert not np.any(actions[-1]["world_vector"])
    assert actions[-1]["gripper_closedness_action"] == 1.0


def test_the_expert_depends_on_the_state_alone(env):
    env.reset(seed=3, options={"skill": "pick"})
    first, second = envs.make_expert(env), envs.make_expert(env, noise=0.02)
    for _ in range(4):
        one, two = first.act(), second.act()
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])
        env.step(one)


def test_a_dropped_object_is_fetched_again(env):
    env.reset(seed=5, options={"skill": "pick"})
    expert = envs.make_expert(env)
    while not env.scene_state.held[env.task.target]:
        env.step(expert.act())
    opened = expert.act() | {"gripper_closedness_action": np.array([-1.0], np.float32)}
    env.step(opened)
    assert not env.scene_state.held[env.task.target]
    terminated = truncated = False
    while not (terminated or truncated):
        _, _, terminated, truncated, _ = env.step(expert.act())
    assert terminated


def test_noise_perturbs_the_motion_and_nothing_else(env):
    env.reset(seed=3, options={"skill": "pick"})
    expert = envs.make_expert(env, noise=0.01)
    action = expert.act()
    noisy = expert.perturb(action)
    assert np.any(noisy["world_vector"] != action["world_vector"])
    for name in set(action) - {"world_vector"}:
        np.testing.assert_array_equal(noisy[name], action[name])
    TABLETOP.validate(noisy)
    assert np.all(np.abs(noisy["world_vector"]) <= 0.05)


def test_noise_follows_from_the_seed(env):
    def noises():
        env.reset(seed=3, options={"skill": "pick"})
        expert = envs.make_expert(env, noise=0.01)
        action = expert.act()
        return [expert.perturb(action)["world_vector"].tolist() for _ in range(3)]

    assert noises() == noises()
    assert len({tuple(noise) for noise in noises()}) == 3


def test_no_noise_means_the_same_action(env):
    env.reset(seed=3)
    expert = envs.make_expert(env)
    action = expert.act()
    assert expert.perturb(action) is action


@pytest.mark.parametrize("noise", [-0.01, 1.0, float("nan")])
def test_noise_out_of_range_is_refused(env, noise):
    with pytest.raises(ValueError, match="noise"):
        envs.make_expert(env, noise)


def test_move_falls_back_behind_a_blocked_spot(env):
    from rt1_jax.envs.layout import NEAR_OFFSET
    from rt1_jax.envs.skills import next_move
    from rt1_jax.envs.tasks import Task

    env.reset(seed=3, options={"skill": "move_near"})
    state, task = env.scene_state, env.task
    blocker = next(s for s in range(4) if s not in (task.target, task.reference))
    positions, held = state.positions.copy(), np.zeros(4, bool)
    positions[:] = [0.3, 0.2, 0.026]
    positions[task.reference] = [0.44, 0.0, 0.026]
    positions[task.target] = [0.44, 0.0, 0.126]
    held[task.target] = True
    free = dataclasses.replace(
        state,
        positions=positions,
        held=held,
        bowl=None,
        command_hand=np.array([0.44, 0.0, 0.125]),
    )
    assert next_move(Task("move_near", task.target, task.reference), env.objects, free).hand[0] < 0
    positions[blocker, :2] = positions[task.reference, :2] + NEAR_OFFSET
    assert next_move(Task("move_near", task.target, task.reference), env.objects, free).hand[0] > 0
