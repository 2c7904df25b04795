import numpy as np
import pytest

from rt1_jax.envs import splits
from rt1_jax.envs.objects import COLOURS, SHAPES
from rt1_jax.envs.tasks import SKILLS, admits

ALL_SPLITS = (*splits.SPLITS, "distractors")


def _draws(split, skill, count=60):
    rng = np.random.default_rng(3)
    return [splits.sample_task(rng, split, skill) for _ in range(count)]


def test_training_shows_every_colour_and_shape_but_not_the_unseen_pairs():
    assert not set(splits.SEEN_OBJECTS) & set(splits.UNSEEN_OBJECTS)
    assert len(splits.SEEN_OBJECTS) + len(splits.UNSEEN_OBJECTS) == 24
    assert {kind.colour for kind in splits.SEEN_OBJECTS} == set(COLOURS)
    assert {kind.shape for kind in splits.SEEN_OBJECTS} == set(SHAPES)


def test_each_unseen_task_is_a_seen_object_that_other_skills_train():
    held_out = [kind for kinds in splits.UNSEEN_TASKS.values() for kind in kinds]
    assert len(held_out) == len(set(held_out))
    for skill, kinds in splits.UNSEEN_TASKS.items():
        for kind in kinds:
            assert kind in splits.SEEN_OBJECTS
            assert admits(skill, kind)
            assert any(kind in splits.targets("seen", other) for other in SKILLS if other != skill)


@pytest.mark.parametrize("skill", ["pick", "move_near", "knock", "upright", "place_into"])
def test_seen_and_unseen_targets_are_disjoint(skill):
    seen = {objects[task.target] for task, objects in _draws("seen", skill, 200)}
    unseen = {objects[task.target] for task, objects in _draws("unseen_tasks", skill)}
    assert unseen == set(splits.UNSEEN_TASKS[skill])
    assert not seen & unseen
    assert seen == set(splits.targets("seen", skill))


@pytest.mark.parametrize("split", ["seen", "unseen_tasks", "backgrounds", "distractors_hard"])
def test_unseen_objects_appear_nowhere_else(split):
    for _, objects in _draws(split, "pick"):
        assert not set(objects) & set(splits.UNSEEN_OBJECTS)


def test_unseen_objects_are_the_targets_of_their_split():
    kinds = {objects[task.target] for task, objects in _draws("unseen_objects", "pick")}
    assert kinds == set(splits.UNSEEN_OBJECTS)


@pytest.mark.parametrize("split", ALL_SPLITS)
def test_objects_are_distinct_and_as_many_as_promised(split):
    for skill in splits.skills_of(split):
        for _, objects in _draws(split, skill, 20):
            assert len(objects) == splits.num_objects(split) == len(set(objects))


def test_base_scenes_have_four_colours():
    for _, objects in _draws("seen", "move_near"):
        assert len({kind.colour for kind in objects}) == 4


@pytest.mark.parametrize("level", splits.DISTRACTOR_LEVELS)
def test_distractors_are_as_confusing_as_their_level_says(level):
    for task, objects in _draws(f"distractors_{level}", "pick"):
        target = objects[task.target]
        others = [kind for kind in objects if kind != target]
        colour = sum(kind.colour == target.colour for kind in others)
        shape = sum(kind.shape == target.shape for kind in others)
        if level == "easy":
            assert colour == 0
        elif level == "medium":
            assert shape >= 3
            assert colour == 0
        else:
            same = sum(kind.colour == target.colour for kind in splits.SEEN_OBJECTS) - 1
            assert colour == min(3, same) >= 1


def test_mixed_distractors_hold_all_levels():
    colours = [
        sum(kind.colour == objects[task.target].colour for kind in objects) > 1
        for task, objects in _draws("distractors", "pick")
    ]
    assert any(colours)
    assert not all(colours)


def test_only_backgrounds_change_the_look():
    rng = np.random.default_rng(0)
    plain = {splits.sample_look(rng, split) for split in ALL_SPLITS if split != "backgrounds"}
    assert plain == {splits.Look()}
    looks = [splits.sample_look(rng, "backgrounds") for _ in range(60)]
    assert "plain" not in {look.background for look in looks}
    assert len({look.background for look in looks}) == 6


@pytest.mark.parametrize(
    ("split", "skills", "message"),
    [
        ("sene", ("pick",), "unknown split 'sene'"),
        ("seen", ("pik",), "unknown skill 'pik'"),
        ("seen", (), "no skills"),
        ("unseen_tasks", ("open_drawer",), "no task of skill 'open_drawer'"),
    ],
)
def test_bad_requests_are_named(split, skills, message):
    with pytest.raises(splits.SplitError, match=message) as caught:
        splits.check(split, skills)
    assert "\n" not in str(caught.value)
