"""Numbers of the papers and the lesson, to stand beside what is measured here.

Success in percent. Sources: Brohan et al. 2022 (RT-1), tables 2 and 7 and its model ablations; the
lesson that this project grew from, which quotes other evaluations of the same systems.
"""

from __future__ import annotations

PAPER_TABLE_2 = {
    "rt1": {"seen": 97, "unseen_tasks": 76, "distractors": 83, "backgrounds": 59},
    "bc_z": {"seen": 72, "unseen_tasks": 19, "distractors": 47, "backgrounds": 41},
    "bc_z_xl": {"seen": 56, "unseen_tasks": 43, "distractors": 23, "backgrounds": 35},
    "gato": {"seen": 65, "unseen_tasks": 52, "distractors": 43, "backgrounds": 35},
}
"""RT-1 paper, table 2: retrained on RT-1's data; 35 M, -, 35 M and 37 M parameters."""

LESSON_TABLE = {
    "rt1": {"seen": 97, "unseen_tasks": 76, "unseen_objects": 56, "parameters": 35_000_000},
    "bc_z": {"seen": 89, "unseen_tasks": 53, "unseen_objects": 25, "parameters": 120_000_000},
    "gato": {"seen": 57, "unseen_tasks": 33, "parameters": 1_200_000_000},
}
"""The lesson's table."""

PAPER_DATA_SIZE = ((100, 97, 73), (51, 71, 50), (37, 55, 46), (22, 59, 29))
"""RT-1 paper, table 7: percent of the data, success on seen tasks, generalisation."""

PAPER_TASKS = ((75, 97, 86, 54),)
"""Likewise: percent of the tasks, of the data, success on seen tasks, generalisation."""

PAPER_DECODING = {"rt1": (97, 76, 15), "autoregressive": (85, 71, 36)}
"""RT-1 paper, model ablations: success on seen and unseen tasks, milliseconds a step."""
