import pytest

from rt1_jax.envs.instructions import WORDINGS, instruction
from rt1_jax.envs.objects import ObjectType
from rt1_jax.envs.tasks import SKILLS, Task

OBJECTS = tuple(ObjectType.parse(name) for name in ("red block", "blue can", "green bottle"))


def _sentences(task):
    return [instruction(task, OBJECTS, i) for i in range(len(WORDINGS[task.skill]))]


@pytest.mark.parametrize("skill", SKILLS)
def test_every_skill_has_four_to_six_wordings(skill):
    sentences = _sentences(Task(skill, 0, 1, "bowl"))
    assert 4 <= len(set(sentences)) <= 6
    assert not any("{" in sentence or "None" in sentence for sentence in sentences)


def test_target_and_reference_have_their_places():
    for there, back in zip(
        _sentences(Task("move_near", 0, 1)), _sentences(Task("move_near", 1, 0)), strict=True
    ):
        assert there.index("red block") < there.index("blue can")
        assert back.index("blue can") < back.index("red block")


def test_receptacle_is_named():
    assert all("drawer" in s for s in _sentences(Task("place_into", 2, receptacle="drawer")))


def test_no_sentence_means_two_skills():
    sentences = [s for skill in SKILLS for s in _sentences(Task(skill, 0, 1, "bowl"))]
    assert len(sentences) == len(set(sentences))
