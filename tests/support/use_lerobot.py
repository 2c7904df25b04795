"""Runs inside an environment with LeRobot, which has other requirements than this package.

python use_lerobot.py read DIRECTORY OUTPUT.npz
python use_lerobot.py write DIRECTORY video|image
"""

from __future__ import annotations

import sys

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

CAMERA = "observation.images.image"
LENGTHS = (4, 6, 3)


def read(directory: str, output: str) -> None:
    data = LeRobotDataset("local/exported", root=directory)
    items = [data[i] for i in range(len(data))]
    window = {CAMERA: [-1 / data.meta.fps, 0.0]}
    one = LeRobotDataset("local/exported", root=directory, episodes=[1], delta_timestamps=window)
    np.savez(
        output,
        images=np.stack([item[CAMERA].numpy() for item in items]),
        actions=np.stack([item["action"].numpy() for item in items]),
        tasks=np.asarray([item["task"] for item in items]),
        episodes=np.asarray([int(item["episode_index"]) for item in items]),
        timestamps=np.asarray([float(item["timestamp"]) for item in items]),
        fps=data.meta.fps,
        names=np.asarray(data.meta.names["action"]),
        mean=np.asarray(data.meta.stats["action"]["mean"]),
        image_mean=np.asarray(data.meta.stats[CAMERA]["mean"]),
        quantile=np.asarray(data.meta.stats["action"]["q99"]),
        window=np.stack([one[i][CAMERA].numpy() for i in range(len(one))]),
    )


def write(directory: str, kind: str) -> None:
    names = ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]
    features = {
        "action": {"dtype": "float32", "shape": (7,), "names": names},
        CAMERA: {"dtype": kind, "shape": (64, 96, 3), "names": ["height", "width", "channels"]},
    }
    data = LeRobotDataset.create(
        "local/made", fps=10, features=features, root=directory, use_videos=kind == "video"
    )
    index = 0
    for episode, length in enumerate(LENGTHS):
        for _ in range(length):
            image = np.full((64, 96, 3), 10 + 15 * index, np.uint8)
            action = np.arange(7, dtype=np.float32) / 10 + index
            task = f"task {episode % 2}"
            data.add_frame({CAMERA: image, "action": action, "task": task})
            index += 1
        data.save_episode()
    data.finalize()


if __name__ == "__main__":
    {"read": read, "write": write}[sys.argv[1]](*sys.argv[2:])
