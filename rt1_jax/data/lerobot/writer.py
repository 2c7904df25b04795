"""Writes a LeRobot dataset (v3.0): tables, videos and metadata, episode by episode."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from rt1_jax.data.lerobot import layout
from rt1_jax.data.lerobot.feature_statistics import (
    PictureHistogram,
    counted_frames,
    vector_statistics,
)
from rt1_jax.data.lerobot.layout import next_file
from rt1_jax.data.lerobot.video import VideoWriter, describe_video

_MB = 1 << 20
_EPISODES_PER_FILE = 10_000
"""Rows of `meta/episodes`: some 5 kB each with its statistics, so 50 MB."""


class LeRobotWriter:
    """Writes into an empty directory, which is a LeRobot dataset once `finish` has returned.

    Args:
      root: the directory.
      camera: key of the frames.
      action_names: of the entries of `action`.
      size: (height, width) of the frames.
      frame_rate: frames a second.
      codec: of the videos; None keeps pictures as they are, in the tables.
      file_mb: (tables, videos): how large files may become.
    """

    def __init__(
        self,
        root: pathlib.Path,
        *,
        camera: str,
        action_names: Sequence[str],
        size: tuple[int, int],
        frame_rate: float,
        codec: str | None,
        file_mb: tuple[float, float] = (layout.DATA_FILE_MB, layout.VIDEO_FILE_MB),
    ) -> None:
        self.root = root
        self._camera = camera
        self._size = size
        self._rate = frame_rate
        self._codec = codec
        self._file_mb = file_mb
        self._features: dict[str, dict[str, Any]] = {
            "action": {
                "dtype": "float32",
                "shape": [len(action_names)],
                "names": list(action_names),
            },
            camera: {
                "dtype": "image" if codec is None else "video",
                "shape": [*size, 3],
                "names": ["height", "width", "channels"],
            },
            **layout.ROW_FEATURES,
        }
        self._tasks: dict[str, int] = {}
        self._episodes: list[dict[str, Any]] = []
        self._rows = 0
        self._actions: list[np.ndarray] = []
        self._columns: dict[str, list[np.ndarray]] = {name: [] for name in layout.ROW_FEATURES}
        self._pictures = PictureHistogram()
        self._table: Any = None
        self._table_place, self._table_start = (0, 0), 0
        self._video: VideoWriter | None = None
        self._video_place = (0, 0)

    def add(
        self,
        actions: np.ndarray,
        task: str,
        *,
        images: Iterable[np.ndarray],
        encoded: Sequence[bytes] | None,
    ) -> None:
        """Appends an episode.

        Args:
          actions: float32 [t, n].
          task: what the robot was told.
          images: t pictures, uint8 [h, w, 3], in turn; where they are kept encoded, only those of
            `counted_frames`.
          encoded: t JPEG or PNG files, to be kept in the table; None for a video.
        """
        steps, number = len(actions), len(self._episodes)
        columns: dict[str, np.ndarray] = {
            "timestamp": (np.arange(steps) / self._rate).astype(np.float32),
            "frame_index": np.arange(steps),
            "episode_index": np.full(steps, number),
            "index": np.arange(self._rows, self._rows + steps),
            "task_index": np.full(steps, self._tasks.setdefault(task, len(self._tasks))),
        }
        self._write_rows(actions, columns, encoded)
        episode: dict[str, Any] = {
            "episode_index": number,
            "tasks": [task],
            "length": steps,
            "data/chunk_index": self._table_place[0],
            "data/file_index": self._table_place[1],
            "dataset_from_index": self._rows,
            "dataset_to_index": self._rows + steps,
        }
        histogram = PictureHistogram()
        if encoded is None:
            episode |= self._write_video(images, steps, histogram)
        else:
            for image in images:
                histogram.add(image)
        statistics = {"action": vector_statistics(actions), self._camera: histogram.summary()}
        statistics |= {key: vector_statistics(value[:, None]) for key, value in columns.items()}
        for feature, values in statistics.items():
            episode |= {f"stats/{feature}/{name}": value for name, value in values.items()}
        self._pictures.merge(histogram)
        self._actions.append(actions)
        for key, value in columns.items():
            self._columns[key].append(value)
        self._episodes.append(episode)
        self._rows += steps

    def finish(self, robot: str | None, ours: dict[str, Any]) -> None:
        """Closes the files and writes the metadata, `meta/info.json` last.

        Args:
          robot: what LeRobot calls `robot_type`.
          ours: goes to `meta/rt1_jax.json`.
        """
        if self._table is not None:
            self._table.close()
        if self._video is not None:
            self._video.close()
            first = layout.VIDEOS.format(video_key=self._camera, chunk_index=0, file_index=0)
            self._features[self._camera]["info"] = describe_video(self.root / first)
        self._write_episodes()
        self._write_tasks()
        statistics = {
            "action": vector_statistics(np.concatenate(self._actions)),
            self._camera: self._pictures.summary(),
        }
        for key, parts in self._columns.items():
            statistics[key] = vector_statistics(np.concatenate(parts)[:, None])
        self._write_json(layout.STATISTICS, statistics)
        self._write_json(layout.OURS, ours)
        whole = float(self._rate).is_integer()
        info = {
            "codebase_version": layout.VERSION,
            "robot_type": robot,
            "total_episodes": len(self._episodes),
            "total_frames": self._rows,
            "total_tasks": len(self._tasks),
            "chunks_size": layout.FILES_PER_CHUNK,
            "data_files_size_in_mb": self._file_mb[0],
            "video_files_size_in_mb": self._file_mb[1],
            "fps": int(self._rate) if whole else self._rate,
            "splits": {"train": f"0:{len(self._episodes)}"},
            "data_path": layout.DATA,
            "video_path": None if self._codec is None else layout.VIDEOS,
            "features": self._features,
        }
        self._write_json(layout.INFO, info)

    def abort(self) -> None:
        """Lets go of open files."""
        if self._video is not None:
            self._video.abort()

    def _write_rows(
        self,
        actions: np.ndarray,
        columns: dict[str, np.ndarray],
        encoded: Sequence[bytes] | None,
    ) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.root / _place(layout.DATA, self._table_place)
        if self._table is not None and self._is_full(
            path.stat().st_size, self._rows - self._table_start, len(actions), self._file_mb[0]
        ):
            self._table.close()
            self._table = None
            self._table_place, self._table_start = next_file(*self._table_place), self._rows
            path = self.root / _place(layout.DATA, self._table_place)
        flat = pa.array(np.ascontiguousarray(actions, np.float32).ravel())
        arrays = {"action": pa.FixedSizeListArray.from_arrays(flat, actions.shape[1])}
        if encoded is not None:
            names = [f"frame-{step:06d}" for step in range(len(encoded))]
            kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
            arrays[self._camera] = pa.array(
                [{"bytes": data, "path": n} for data, n in zip(encoded, names, strict=True)], kind
            )
        arrays |= {name: pa.array(value) for name, value in columns.items()}
        table = pa.table(arrays).replace_schema_metadata(self._schema_notes())
        if self._table is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._table = pq.ParquetWriter(path, table.schema, compression="snappy")
        # A row group an episode: any one can be read alone.
        self._table.write_table(table)

    def _write_video(
        self, images: Iterable[np.ndarray], steps: int, histogram: PictureHistogram
    ) -> dict[str, Any]:
        key = f"videos/{self._camera}"
        if self._video is not None and self._is_full(
            self._video.bytes, self._video.frames, steps, self._file_mb[1]
        ):
            self._video.close()
            self._video = None
            self._video_place = next_file(*self._video_place)
        if self._video is None:
            path = self.root / _place(layout.VIDEOS, self._video_place, self._camera)
            path.parent.mkdir(parents=True, exist_ok=True)
            assert self._codec is not None
            self._video = VideoWriter(path, self._size, self._rate, self._codec)
        start, counted = self._video.seconds, counted_frames(steps)
        for step, image in enumerate(images):
            self._video.add(image)
            if step in counted:
                histogram.add(image)
        return {
            f"{key}/chunk_index": self._video_place[0],
            f"{key}/file_index": self._video_place[1],
            f"{key}/from_timestamp": start,
            f"{key}/to_timestamp": self._video.seconds,
        }

    def _is_full(self, size: int, frames: int, more: int, limit: float) -> bool:
        """Whether an episode of `more` frames would take a file beyond its limit."""
        return size + size / max(frames, 1) * more >= limit * _MB

    def _write_episodes(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        place = (0, 0)
        for start in range(0, len(self._episodes), _EPISODES_PER_FILE):
            rows = [
                {**e, "meta/episodes/chunk_index": place[0], "meta/episodes/file_index": place[1]}
                for e in self._episodes[start : start + _EPISODES_PER_FILE]
            ]
            path = self.root / _place(layout.EPISODES, place)
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(rows), path, compression="snappy")
            place = next_file(*place)

    def _write_tasks(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        index = "__index_level_0__"
        table = pa.table({"task_index": list(self._tasks.values()), index: list(self._tasks)})
        # LeRobot reads this table with pandas and looks tasks up in its index.
        kinds = (("task_index", "int64", "int64"), (None, "unicode", "object"))
        notes = {
            "index_columns": [index],
            "column_indexes": [],
            "columns": [
                {
                    "name": name,
                    "field_name": name or index,
                    "pandas_type": pandas,
                    "numpy_type": numpy,
                    "metadata": None,
                }
                for name, pandas, numpy in kinds
            ],
            "creator": {"library": "pyarrow", "version": pa.__version__},
            "pandas_version": "2.2.0",
        }
        path = self.root / layout.TASKS
        pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(notes)}), path)

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=4, ensure_ascii=False))

    def _schema_notes(self) -> dict[str, str]:
        """What the `datasets` library keeps in a parquet file: how columns are to be taken."""
        columns: dict[str, Any] = {}
        for key, feature in self._features.items():
            if feature["dtype"] == "image":
                columns[key] = {"_type": "Image"}
            elif feature["dtype"] != "video":
                value = {"dtype": feature["dtype"], "_type": "Value"}
                (length,) = feature["shape"]
                columns[key] = (
                    value
                    if length == 1
                    else {"feature": value, "length": length, "_type": "Sequence"}
                )
        return {"huggingface": json.dumps({"info": {"features": columns}})}


def _place(template: str, place: tuple[int, int], video_key: str = "") -> str:
    return template.format(chunk_index=place[0], file_index=place[1], video_key=video_key)
