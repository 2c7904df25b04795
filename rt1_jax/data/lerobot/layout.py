"""Names, limits and features of the LeRobot dataset format, version 3.0."""

from __future__ import annotations

from typing import Any

VERSION = "v3.0"
INFO = "meta/info.json"
STATISTICS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEOS = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
OURS = "meta/rt1_jax.json"
"""Not of the format: what an export adds, so that importing it again gives the very actions."""

FILES_PER_CHUNK = 1000
DATA_FILE_MB = 100
VIDEO_FILE_MB = 200

ROW_FEATURES: dict[str, dict[str, Any]] = {
    "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    "frame_index": {"dtype": "int64", "shape": [1], "names": None},
    "episode_index": {"dtype": "int64", "shape": [1], "names": None},
    "index": {"dtype": "int64", "shape": [1], "names": None},
    "task_index": {"dtype": "int64", "shape": [1], "names": None},
}
"""Columns that every LeRobot dataset has."""

QUANTILES = (0.01, 0.10, 0.50, 0.90, 0.99)


class LeRobotError(ValueError):
    """A LeRobot dataset that is missing, damaged or of another kind; a request that fits none."""


def next_file(chunk: int, file: int) -> tuple[int, int]:
    """The place of the file after this one."""
    return (chunk + 1, 0) if file == FILES_PER_CHUNK - 1 else (chunk, file + 1)


def feature_names(feature: dict[str, Any]) -> list[str]:
    """The names of a vector's entries, [] where there are none.

    They come as a list, or as a dictionary of lists ({"motors": [...]}).
    """
    names = feature.get("names") or []
    if isinstance(names, dict):
        names = [name for part in names.values() for name in (part or [])]
    return [str(name) for name in names]
