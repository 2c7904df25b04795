"""A LeRobot dataset (v3.0) on disk: its metadata, and the rows of one episode at a time."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import pathlib
from typing import Any

import numpy as np

from rt1_jax.data.lerobot import layout
from rt1_jax.data.lerobot.layout import LeRobotError

_CONVERT = (
    "convert it first, where LeRobot is installed: python -m "
    "lerobot.datasets.v30.convert_dataset_v21_to_v30 (lerobot.scripts.convert_dataset_v21_to_v30 "
    "in later releases) --repo-id=USER/NAME"
)


@dataclasses.dataclass
class Rows:
    """One episode's rows in the order of its frames.

    Attributes:
      vectors: {feature: float32 [t, n]}.
      timestamps: float64 [t], seconds from the episode's beginning.
      tasks: int64 [t].
      images: t encoded pictures where frames are in the table, else None.
    """

    vectors: dict[str, np.ndarray]
    timestamps: np.ndarray
    tasks: np.ndarray
    images: list[bytes] | None


@dataclasses.dataclass
class LeRobotSource:
    """An open LeRobot dataset.

    Attributes:
      root: its directory.
      info: the content of `meta/info.json`.
      tasks: {task_index: what the robot was told}.
      episodes: one dictionary an episode, in the order of `episode_index`: the columns of
        `meta/episodes` but the statistics.
      ours: what an export of this package noted (`meta/rt1_jax.json`), or None.
    """

    root: pathlib.Path
    info: dict[str, Any]
    tasks: dict[int, str]
    episodes: list[dict[str, Any]]
    ours: dict[str, Any] | None
    _file: tuple[pathlib.Path, Any, np.ndarray] | None = dataclasses.field(default=None, repr=False)
    _group: tuple[pathlib.Path, int, Any] | None = dataclasses.field(default=None, repr=False)

    @classmethod
    def open(cls, directory: str | os.PathLike[str]) -> LeRobotSource:
        """Opens a dataset and checks its metadata.

        Raises:
          LeRobotError: no LeRobot dataset, one of another version, or a file that cannot be read.
        """
        root = pathlib.Path(directory)
        if not root.is_dir():
            raise LeRobotError(f"no directory {root}")
        if not (root / layout.INFO).exists():
            raise LeRobotError(f"{root} has no {layout.INFO}: it is not a LeRobot dataset")
        info = _read_json(root / layout.INFO)
        _check_info(root, info)
        source = cls(root, info, _read_tasks(root), _read_episodes(root), None)
        if (root / layout.OURS).exists():
            source.ours = _read_json(root / layout.OURS)
        if len(source.episodes) != info["total_episodes"]:
            raise LeRobotError(
                f"{root / 'meta/episodes'} lists {len(source.episodes)} episodes, {layout.INFO} "
                f"{info['total_episodes']}: files are missing; download the dataset again"
            )
        return source

    @property
    def features(self) -> dict[str, dict[str, Any]]:
        return self.info["features"]

    @property
    def frame_rate(self) -> float:
        return float(self.info["fps"])

    @property
    def cameras(self) -> list[str]:
        """Keys of colour pictures, as videos or in the tables."""
        return [
            key
            for key, feature in self.features.items()
            if feature["dtype"] in ("video", "image") and not _is_depth(feature)
        ]

    def check_camera(self, key: str) -> bool:
        """Whether the camera's frames are in videos (else they are in the tables).

        Raises:
          LeRobotError: there is no such camera; the nearest names are in the message.
        """
        if key not in self.cameras:
            nearest = difflib.get_close_matches(key, self.cameras, n=3, cutoff=0.3)
            hint = f"did you mean {' or '.join(map(repr, nearest))}? " if nearest else ""
            raise LeRobotError(
                f"{self.root} has no camera {key!r}; {hint}Its cameras are "
                f"{', '.join(self.cameras) or 'none'}"
            )
        return self.features[key]["dtype"] == "video"

    def video(self, row: int, camera: str) -> tuple[pathlib.Path, float]:
        """The file that holds an episode's frames, and the second at which they begin in it.

        Args:
          row: the episode's place in `episodes`.
          camera: a key that `check_camera` takes for a video.
        """
        episode = self.episodes[row]
        try:
            path = self.info["video_path"].format(
                video_key=camera,
                chunk_index=episode[f"videos/{camera}/chunk_index"],
                file_index=episode[f"videos/{camera}/file_index"],
            )
            return self.root / path, float(episode[f"videos/{camera}/from_timestamp"])
        except KeyError as error:
            raise LeRobotError(
                f"{self.root / 'meta/episodes'} has no column {error} for the camera {camera!r}"
            ) from error

    def rows(self, row: int, vectors: list[str], image: str | None) -> Rows:
        """The rows of one episode.

        Args:
          row: the episode's place in `episodes`.
          vectors: keys of the numeric features that are wanted.
          image: key of the pictures that are wanted, where they are in the table.

        Raises:
          LeRobotError: a file or column is missing, or the episode's rows are not whole.
        """
        episode = self.episodes[row]
        path = self.root / self.info["data_path"].format(
            chunk_index=episode["data/chunk_index"], file_index=episode["data/file_index"]
        )
        table, numbers = self._table(path, vectors)
        places = np.flatnonzero(numbers == episode["episode_index"])
        frames = _column(path, table, "frame_index")[places].astype(np.int64)
        places = places[np.argsort(frames, kind="stable")]
        if len(places) != episode["length"] or sorted(frames) != list(range(len(frames))):
            raise LeRobotError(
                f"{path}: episode {episode['episode_index']} has {len(places)} rows whose frame "
                f"indices are not 0..{episode['length'] - 1}, as meta/episodes says; download the "
                "file again"
            )
        return Rows(
            {
                key: _column(path, table, key)[places].astype(np.float32).reshape(len(places), -1)
                for key in vectors
            },
            _column(path, table, "timestamp")[places].astype(np.float64),
            _column(path, table, "task_index")[places].astype(np.int64),
            None if image is None else self._images(path, image, places),
        )

    def _table(self, path: pathlib.Path, vectors: list[str]) -> tuple[Any, np.ndarray]:
        """A file's numbers. The last file is kept: neighbouring episodes share it."""
        if self._file is None or self._file[0] != path:
            columns = ["episode_index", "frame_index", "timestamp", "task_index", *vectors]
            table = _read_parquet(path, columns)
            self._file = (path, table, _column(path, table, "episode_index"))
        return self._file[1], self._file[2]

    def _images(self, path: pathlib.Path, key: str, places: np.ndarray) -> list[bytes]:
        """Pictures by their rows in a file, read a row group at a time."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            starts = np.concatenate([[0], np.cumsum(sizes)])
            found = []
            for place in places:
                group = int(np.searchsorted(starts, place, side="right")) - 1
                if self._group is None or self._group[:2] != (path, group):
                    if key not in file.schema_arrow.names:
                        raise LeRobotError(f"{path} has no column {key!r}")
                    pictures = file.read_row_group(group, columns=[key]).column(key)
                    self._group = (path, group, pictures)
                found.append(self._picture(path, self._group[2][int(place - starts[group])]))
        return found

    def _picture(self, path: pathlib.Path, cell: Any) -> bytes:
        value = cell.as_py() or {}
        if value.get("bytes"):
            return value["bytes"]
        # Where bytes were not embedded there is the path of a file.
        picture = self.root / (value.get("path") or "")
        if not picture.is_file():
            raise LeRobotError(f"{path}: a row has neither the bytes of a picture nor {picture}")
        return picture.read_bytes()


def _check_info(root: pathlib.Path, info: dict[str, Any]) -> None:
    version = str(info.get("codebase_version"))
    if version.startswith(("v2", "v1")):
        raise LeRobotError(f"{root} is of version {version}, {layout.VERSION} is read; {_CONVERT}")
    if not version.startswith("v3."):
        raise LeRobotError(f"{root} is of version {version!r}; {layout.VERSION} is read")
    if info.get("storage_format", "parquet") == "lance":
        raise LeRobotError(
            f"{root} is stored as Lance tables; parquet and mp4 files are read: get the dataset "
            "that these were converted from"
        )
    for key in ("features", "fps", "total_episodes", "data_path"):
        if info.get(key) is None:
            raise LeRobotError(f"{root / layout.INFO} lacks {key!r}")
    if "action" not in info["features"]:
        raise LeRobotError(
            f"{root} has no feature 'action'; its features are {', '.join(info['features'])}"
        )


def _is_depth(feature: dict[str, Any]) -> bool:
    notes = {**(feature.get("video_info") or {}), **(feature.get("info") or {})}
    return bool(notes.get("video.is_depth_map") or notes.get("is_depth_map"))


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise LeRobotError(f"{path} cannot be read ({error})") from error


def _read_tasks(root: pathlib.Path) -> dict[int, str]:
    table = _read_parquet(root / layout.TASKS)
    # The text is pandas' index: its column's name is the index's, or made up by pandas.
    texts = [name for name in table.column_names if name != "task_index"]
    if len(texts) != 1 or "task_index" not in table.column_names:
        raise LeRobotError(
            f"{root / layout.TASKS} has the columns {table.column_names}, expected task_index and "
            "one with the texts"
        )
    numbers, words = table["task_index"].to_pylist(), table[texts[0]].to_pylist()
    return {int(number): text or "" for number, text in zip(numbers, words, strict=True)}


def _read_episodes(root: pathlib.Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    paths = sorted((root / "meta/episodes").glob("*/*.parquet"))
    if not paths:
        raise LeRobotError(f"{root / 'meta/episodes'} holds no parquet files")
    found: list[dict[str, Any]] = []
    for path in paths:
        try:
            names = pq.read_schema(path).names
        except (OSError, ValueError) as error:
            raise LeRobotError(f"{path} cannot be read ({error}); download it again") from error
        columns = [name for name in names if not name.startswith("stats/")]
        needed = {"episode_index", "length", "data/chunk_index", "data/file_index"}
        if missing := sorted(needed - set(columns)):
            raise LeRobotError(f"{path} lacks the column {missing[0]!r}")
        found += _read_parquet(path, columns).to_pylist()
    return sorted(found, key=lambda episode: episode["episode_index"])


def _read_parquet(path: pathlib.Path, columns: list[str] | None = None) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        raise LeRobotError(f"{path} is missing; download the dataset again")
    try:
        # One file, not a dataset: else directories like chunk-000 are looked at for partitions.
        with pq.ParquetFile(path) as file:
            if missing := [name for name in columns or [] if name not in file.schema_arrow.names]:
                raise LeRobotError(f"{path} has no column {missing[0]!r}")
            return file.read(columns)
    except (OSError, pa.ArrowException) as error:
        raise LeRobotError(f"{path} cannot be read ({error}); download it again") from error


def _column(path: pathlib.Path, table: Any, name: str) -> np.ndarray:
    """A column of numbers: [rows], or [rows, n] where it holds lists of n."""
    import pyarrow as pa

    column = table[name].combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    if not pa.types.is_nested(column.type):
        return column.to_numpy(zero_copy_only=False)
    numbers = column.flatten().to_numpy(zero_copy_only=False)
    if len(column) == 0 or len(numbers) % len(column):
        raise LeRobotError(f"{path}: the lists in column {name!r} are not of one length")
    return numbers.reshape(len(column), -1)
