import numpy as np
import pytest

from rt1_jax.envs import layout as rules
from rt1_jax.envs import splits
from rt1_jax.envs.robot import REACH_HIGH, REACH_LOW
from rt1_jax.envs.tasks import DRAWER_CLOSED, DRAWER_OPEN, NEAR_DISTANCE, SKILLS


def _layouts(split, skill, count=15):
    rng = np.random.default_rng(5)
    for _ in range(count):
        task, objects = splits.sample_task(rng, split, skill)
        yield task, objects, rules.sample_layout(rng, task, objects, splits.Look())


@pytest.mark.parametrize("skill", SKILLS)
@pytest.mark.parametrize("split", ["seen", "distractors_hard"])
def test_objects_lie_within_reach_and_apart(split, skill):
    for _, objects, layout in _layouts(split, skill):
        assert np.all(layout.positions >= REACH_LOW[:2])
        assert np.all(layout.positions <= REACH_HIGH[:2])
        for i in range(len(objects)):
            others = np.delete(layout.positions, i, axis=0)
            assert rules.apart(others, layout.positions[i], rules.SPACING - 1e-9).all()
            if layout.bowl is not None:
                assert rules.apart(layout.bowl, layout.positions[i], rules.BOWL_SPACING - 1e-9)


def test_move_near_starts_far_with_a_free_spot():
    for task, _, layout in _layouts("seen", "move_near"):
        reference = layout.positions[task.reference]
        assert np.linalg.norm(layout.positions[task.target] - reference) > NEAR_DISTANCE + 0.05
        others = np.delete(layout.positions, [task.target, task.reference], axis=0)
        assert rules.apart(others, reference + rules.NEAR_OFFSET, rules.SPACING - 1e-9).all()


def test_goals_do_not_hold_from_the_start():
    for _, _, layout in _layouts("seen", "open_drawer"):
        assert layout.drawer_opening < DRAWER_OPEN
    for _, _, layout in _layouts("seen", "close_drawer"):
        assert layout.drawer_opening > DRAWER_CLOSED
    for task, _, layout in _layouts("seen", "upright"):
        assert layout.lying.sum() == 1
        assert layout.lying[task.target]


def test_receptacles_are_there_when_needed():
    for task, _, layout in _layouts("seen", "place_into", 30):
        assert task.receptacle != "bowl" or layout.bowl is not None
        assert task.receptacle != "drawer" or layout.drawer_opening > 0.12


def test_half_of_the_scenes_show_a_bowl():
    bowls = [layout.bowl is not None for _, _, layout in _layouts("seen", "pick", 200)]
    assert 0.4 < np.mean(bowls) < 0.6


def test_the_drawer_is_beyond_the_arm_and_often_needs_a_turn():
    yaws = []
    for _, _, layout in _layouts("seen", "open_drawer", 40):
        _, y, yaw = layout.cabinet
        yaws.append(yaw)
        nearest = y - 0.18 * np.sin(yaw)  # the knob, pulled out all the way
        assert nearest > REACH_HIGH[1] + 0.05
    assert np.mean(np.array(yaws) > 0.2) > 0.4


def test_an_impossible_layout_is_reported(monkeypatch):
    monkeypatch.setattr(rules, "_RESTARTS", 2)
    monkeypatch.setattr(rules, "SPACING", np.array([1.0, 1.0]))
    rng = np.random.default_rng(0)
    task, objects = splits.sample_task(rng, "seen", "pick")
    with pytest.raises(RuntimeError, match="no free layout"):
        rules.sample_layout(rng, task, objects, splits.Look())
