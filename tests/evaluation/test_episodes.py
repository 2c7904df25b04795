from __future__ import annotations

from collections import Counter

import pytest

from rt1_jax.evaluation.episodes import (
    EXPERT,
    POLICY,
    WRONG_INSTRUCTION,
    EpisodeRequest,
    EpisodeResult,
    EvaluationError,
    plan_episodes,
)


def test_plan_shares_episodes_evenly_on_the_same_scenes() -> None:
    plan = plan_episodes(
        tasks={split: ["pick", "move_near", "knock"] for split in ("seen", "backgrounds")},
        episodes=7,
        seed=100,
        controls=[EXPERT, WRONG_INSTRUCTION],
    )
    assert [r.index for r in plan] == list(range(2 * 3 * 7))
    scenes = {}
    for condition in (POLICY, WRONG_INSTRUCTION, EXPERT):
        mine = [r for r in plan if r.condition == condition]
        scenes[condition] = [(r.split, r.skill, r.seed) for r in mine]
        assert Counter((r.split, r.skill) for r in mine) == {
            (split, skill): 3 if skill == "pick" else 2
            for split in ("seen", "backgrounds")
            for skill in ("pick", "move_near", "knock")
        }
        assert sorted({r.seed for r in mine}) == list(range(100, 107))
    assert scenes[POLICY] == scenes[WRONG_INSTRUCTION] == scenes[EXPERT]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"episodes": 0}, "nothing to evaluate"),
        ({"tasks": {}}, "nothing to evaluate"),
        ({"tasks": {"seen": []}}, "nothing to evaluate"),
        ({"controls": ["oracle"]}, "unknown control 'oracle'"),
    ],
)
def test_plan_refuses(change: dict, message: str) -> None:
    arguments = {"tasks": {"seen": ["pick"]}, "episodes": 1, "seed": 0}
    with pytest.raises(EvaluationError, match=message):
        plan_episodes(**(arguments | change))


def test_result_as_json_is_flat() -> None:
    request = EpisodeRequest(3, POLICY, "seen", "pick", 11)
    result = EpisodeResult(request, "pick the can", "pick the can", True, 9, 8, True)
    assert result.to_json() == {
        "index": 3,
        "condition": "policy",
        "split": "seen",
        "skill": "pick",
        "seed": 11,
        "instruction": "pick the can",
        "told": "pick the can",
        "success": True,
        "steps": 9,
        "first_terminate": 8,
        "goal_at_first_terminate": True,
    }
