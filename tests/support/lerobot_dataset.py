"""A LeRobot dataset (v3.0) written by hand to the format's description, with no code of ours."""

from __future__ import annotations

import io
import json
import pathlib
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

CAMERA = "observation.images.front"
FPS = 10
LENGTHS = (4, 7, 5, 3)
NAMES = ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]
SIZE = (32, 48)


def frame(index: int) -> np.ndarray:
    """A picture that tells the number in `index` by eight grey fields: uint8 [h, w, 3]."""
    bits = [(index >> bit) & 1 for bit in range(8)]
    rows = np.asarray(bits, np.uint8).reshape(2, 4) * 200 + 20
    picture = np.kron(rows, np.ones((SIZE[0] // 2, SIZE[1] // 4), np.uint8))
    return np.repeat(picture[..., None], 3, -1)


def frame_index(image: np.ndarray) -> int:
    """The number that `frame` put into a picture."""
    height, width = image.shape[0] // 2, image.shape[1] // 4
    fields = image.reshape(2, height, 4, width, 3).mean((1, 3, 4)).ravel() > 120
    return int(sum(1 << bit for bit in range(8) if fields[bit]))


def actions(episode: int) -> np.ndarray:
    """float32 [t, 7] of an episode."""
    rng = np.random.default_rng(episode)
    return rng.uniform(-0.5, 0.5, (LENGTHS[episode], 7)).astype(np.float32)


def first_index(episode: int) -> int:
    return sum(LENGTHS[:episode])


def write_video(
    path: pathlib.Path, indices: list[int], options: dict[str, str], codec: str
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS, options=options)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for index in indices:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame(index), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


def write(
    root: pathlib.Path,
    *,
    video: bool = True,
    names: Any = NAMES,
    files: tuple[tuple[int, ...], ...] = ((0, 1), (2, 3)),
    options: dict[str, str] | None = None,
    codec: str = "libx264",
) -> pathlib.Path:
    """Four episodes and two tasks; `files` says which episodes share a file."""
    options = options or {"g": "2", "crf": "20"}
    info = {
        "codebase_version": "v3.0",
        "robot_type": "so100",
        "total_episodes": len(LENGTHS),
        "total_frames": sum(LENGTHS),
        "total_tasks": 2,
        "chunks_size": 1000,
        "fps": FPS,
        "splits": {"train": f"0:{len(LENGTHS)}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": {
            "action": {"dtype": "float32", "shape": [7], "names": names},
            "observation.state": {"dtype": "float32", "shape": [2], "names": None},
            CAMERA: {
                "dtype": "video" if video else "image",
                "shape": [*SIZE, 3],
                "names": ["height", "width", "channels"],
            },
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
            **{
                key: {"dtype": "int64", "shape": [1], "names": None}
                for key in ("frame_index", "episode_index", "index", "task_index")
            },
        },
    }
    episodes = []
    for number, members in enumerate(files):
        rows, indices = [], []
        for episode in members:
            start = len(indices)
            length, first = LENGTHS[episode], first_index(episode)
            for t in range(length):
                row = {
                    "action": actions(episode)[t].tolist(),
                    "observation.state": [float(episode), float(t)],
                    "timestamp": t / FPS,
                    "frame_index": t,
                    "episode_index": episode,
                    "index": first + t,
                    "task_index": episode % 2,
                }
                if not video:
                    row[CAMERA] = {"bytes": png(frame(first + t)), "path": f"frame-{t:06d}.png"}
                rows.append(row)
                indices.append(first + t)
            place = {
                "episode_index": episode,
                "tasks": [f"task {episode % 2}"],
                "length": length,
                "data/chunk_index": 0,
                "data/file_index": number,
                "dataset_from_index": first,
                "dataset_to_index": first + length,
                "stats/action/mean": actions(episode).mean(0).tolist(),
            }
            if video:
                place |= {
                    f"videos/{CAMERA}/chunk_index": 0,
                    f"videos/{CAMERA}/file_index": number,
                    f"videos/{CAMERA}/from_timestamp": start / FPS,
                    f"videos/{CAMERA}/to_timestamp": (start + length) / FPS,
                }
            episodes.append(place)
        table = pa.Table.from_pylist(rows)
        column = table.schema.get_field_index("timestamp")
        table = table.set_column(column, "timestamp", table["timestamp"].cast(pa.float32()))
        path = root / info["data_path"].format(chunk_index=0, file_index=number)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, row_group_size=3)  # not at the episodes' ends
        if video:
            place = info["video_path"].format(video_key=CAMERA, chunk_index=0, file_index=number)
            write_video(root / place, indices, options, codec)
    meta = root / "meta"
    (meta / "episodes/chunk-000").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(episodes), meta / "episodes/chunk-000/file-000.parquet")
    tasks = {"task_index": [0, 1], "__index_level_0__": ["task 0", "task 1"]}
    pq.write_table(pa.table(tasks), meta / "tasks.parquet")
    (meta / "info.json").write_text(json.dumps(info))
    (meta / "stats.json").write_text("{}")
    return root


def edit_info(root: pathlib.Path, change: Any) -> None:
    """Changes `meta/info.json` in place."""
    path = root / "meta/info.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def edit_rows(root: pathlib.Path, file: int, change: Any) -> None:
    """Changes the rows of a data file in place: `change` gets a list of dictionaries."""
    path = root / f"data/chunk-000/file-{file:03d}.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
