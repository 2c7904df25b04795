from __future__ import annotations

import numpy as np
import pytest
from scripted_world import CountingPolicy, ScriptedFactory, WalkingPolicy

from rt1_jax.evaluation.episodes import EXPERT, WRONG_INSTRUCTION, plan_episodes
from rt1_jax.evaluation.film import FilmShelf
from rt1_jax.evaluation.pool import EnvironmentPool, RolloutError
from rt1_jax.evaluation.rollout import rollout


def plan(episodes: int = 12, controls: tuple[str, ...] = (), seed: int = 0) -> list:
    return plan_episodes(tasks={"seen": ["walk"]}, episodes=episodes, seed=seed, controls=controls)


def acting(requests: list) -> list:
    return [r for r in requests if r.condition != EXPERT]


def test_results_do_not_depend_on_processes() -> None:
    requests = acting(plan(9, (WRONG_INSTRUCTION,)))
    found = []
    for processes in (1, 3):
        with EnvironmentPool(ScriptedFactory(), processes) as pool:
            found.append(rollout(WalkingPolicy(), requests, pool, slots=4))
    assert found[0] == found[1]
    assert [r.request for r in found[0]] == requests


def test_a_right_policy_succeeds_and_a_wrong_instruction_does_not() -> None:
    requests = acting(plan(12, (WRONG_INSTRUCTION,)))
    shelf = FilmShelf(2)
    ended: list[int] = []
    policy = WalkingPolicy()
    with EnvironmentPool(ScriptedFactory(), 2) as pool:
        results = rollout(
            policy,
            requests,
            pool,
            slots=5,
            films=shelf,
            on_result=lambda r: ended.append(r.request.index),
        )
    assert policy.batch_sizes == {5}
    assert sorted(ended) == list(range(24))
    for result in results[:12]:
        # Walks |gap| steps, the last of which reaches the goal; then holds for two more.
        rng = np.random.default_rng(result.request.seed)
        place, target = rng.choice(10, 2, replace=False)
        assert result.success
        assert result.steps == abs(int(target) - int(place)) + 2
        assert result.told == result.instruction == f"go to {target}"
        # The first terminate is said on seeing the goal reached: one step after it was reached.
        assert result.first_terminate == result.steps - 1
        assert result.goal_at_first_terminate
    for result in results[12:]:
        assert not result.success
        assert result.told != result.instruction
        assert result.steps == 16
        assert result.goal_at_first_terminate is False

    films = shelf.films()
    outcomes = [(f.request.condition, f.request.index, f.result.success) for f in films]
    assert outcomes == [("policy", 0, True), ("policy", 1, True), ("wrong_instruction", 12, False)]
    for film in films:
        assert len(film.images) == len(film.actions) == len(film.goal_holds) == film.result.steps
    places = [int(image[0, :, 0].argmax()) for image in films[0].images]
    rng = np.random.default_rng(0)
    place, target = (int(v) for v in rng.choice(10, 2, replace=False))
    way = list(range(place, target, 1 if target > place else -1))
    assert places == [*way, target, target]
    assert films[0].goal_holds == [False] * (len(way) - 1) + [True] * 3


def test_state_is_reset_for_the_finished_episode_only() -> None:
    # Never moves, so all episodes last 16 steps; only the count in the state decides.
    with EnvironmentPool(ScriptedFactory(), 1) as pool:
        results = rollout(CountingPolicy(at=5), plan(7), pool, slots=3)
    assert [r.first_terminate for r in results] == [5] * 7


def test_terminate_does_not_end_an_episode() -> None:
    with EnvironmentPool(ScriptedFactory(), 1) as pool:
        results = rollout(WalkingPolicy(early=9), plan(5), pool)
    assert all(r.success for r in results)
    assert all(r.first_terminate == 1 for r in results)
    lengths = [r.steps for r in results]
    assert [r.goal_at_first_terminate for r in results] == [n == 3 for n in lengths]


def test_experts_run_in_the_processes() -> None:
    requests = [r for r in plan(8, (EXPERT,)) if r.condition == EXPERT]
    with EnvironmentPool(ScriptedFactory(), 2) as pool:
        results = list(pool.run_experts(requests))
    assert sorted(r.request.index for r in results) == [r.index for r in requests]
    assert all(r.success and r.goal_at_first_terminate for r in results)


@pytest.mark.parametrize("control", ["policy", "expert"])
@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("raise", "seed 3.*KeyError.*the bowl fell off the table"),
        ("die", "ended unexpectedly with exit code 7"),
        ("hang", "has not answered|no expert episode ended"),
    ],
)
def test_trouble_in_a_process_is_reported(control: str, trouble: str, message: str) -> None:
    timeout = 4.0 if trouble == "hang" else 120.0
    pool = EnvironmentPool(ScriptedFactory(trouble, at=3), 1, timeout=timeout)

    def run() -> None:
        with pool:
            if control == "policy":
                rollout(WalkingPolicy(), plan(5), pool, slots=2)
            else:
                list(pool.run_experts(plan(5)))

    with pytest.raises(RolloutError, match=message) as caught:
        run()
    if trouble == "raise":
        assert "scripted_world.py" in "".join(caught.value.__notes__)
    assert not any(process.is_alive() for process in pool._processes)
