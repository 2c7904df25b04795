"""Writes a dataset as a LeRobot dataset (v3.0).

    python -m rt1_jax.data.export_lerobot --dataset=data/mine --output=out/lerobot \\
        [--codec=libx264 --image_key=observation.images.image --video=true]

`action` is the fields one behind the other. With `--video=false` frames stay the very files that
they are, in the tables. `out/lerobot` appears when it is whole.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import re
import shutil
import sys
from collections.abc import Sequence

import numpy as np

from rt1_jax.actions import ActionSpec
from rt1_jax.data.episode import decode_image
from rt1_jax.data.lerobot.feature_statistics import counted_frames
from rt1_jax.data.lerobot.layout import DATA_FILE_MB, ROW_FEATURES, VIDEO_FILE_MB, LeRobotError
from rt1_jax.data.lerobot.video import CODECS, check_codec
from rt1_jax.data.lerobot.writer import LeRobotWriter
from rt1_jax.data.store import StepStore

IMAGE_KEY = "observation.images.image"


def export_lerobot(
    store: StepStore,
    output: str | os.PathLike[str],
    *,
    codec: str | None = CODECS[0],
    image_key: str = IMAGE_KEY,
    file_mb: tuple[float, float] = (DATA_FILE_MB, VIDEO_FILE_MB),
    progress: bool = True,
) -> None:
    """Writes a dataset as a LeRobot dataset.

    Args:
      store: the dataset.
      output: a directory that does not exist yet, or is empty.
      codec: of the videos; None keeps the frames as they are, in the tables.
      image_key: what the frames are called there.
      file_mb: (tables, videos): how large files may become.
      progress: whether to draw a progress bar.

    Raises:
      LeRobotError: the directory is taken, or the frames and the codec do not fit.
    """
    import tqdm

    final = pathlib.Path(output)
    if final.exists() and (not final.is_dir() or any(final.iterdir())):
        raise LeRobotError(f"{final} exists: choose another --output or delete it")
    if not re.fullmatch(r"observation\.[^/\s]+", image_key) or image_key in ROW_FEATURES:
        raise LeRobotError(
            f"--image_key={image_key}: expected 'observation.' and a name without '/', "
            f"such as {IMAGE_KEY}"
        )
    if codec is not None:
        check_codec(codec, store.image_size)
    partial = final.with_name(f".{final.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    writer = LeRobotWriter(
        partial,
        camera=image_key,
        action_names=action_names(store.action_spec),
        size=store.image_size,
        frame_rate=store.description["frame_rate"],
        codec=codec,
        file_mb=file_mb,
    )
    try:
        for number in tqdm.trange(len(store), unit="episode", disable=not progress):
            episode = store.read_encoded(number)
            actions = np.concatenate(
                [episode.actions[name] for name in store.action_spec.field_names], axis=-1
            )
            keep = codec is None
            shown = counted_frames(len(episode)) if keep else range(len(episode))
            writer.add(
                actions,
                episode.instruction,
                images=(decode_image(episode.frames[step]) for step in sorted(shown)),
                encoded=episode.frames if keep else None,
            )
        robot = store.description["source"].get("robot")
        metadata = store.metadata()
        ours = {
            "action_spec": store.action_spec.to_json(),
            "source": store.description["source"],
            # A store of selected episodes has the metadata of all.
            "metadata": metadata if len(metadata) == len(store) else [],
        }
        writer.finish(None if robot is None else str(robot), ours)
        os.replace(partial, final)
    finally:
        writer.abort()
        shutil.rmtree(partial, ignore_errors=True)


def action_names(spec: ActionSpec) -> list[str]:
    """A name an entry of `action`: `world_vector/x`, `terminate_episode/0`, ..."""
    names: list[str] = []
    for field in spec.fields:
        own = field.token_names
        if len(own) != field.size:  # one token for a one-hot vector
            own = tuple(f"{field.name}/{i}" for i in range(field.size))
        names += own
    return names


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m rt1_jax.data.export_lerobot", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--dataset", required=True, help="directory of the dataset")
    parser.add_argument("--output", required=True, help="directory of the LeRobot dataset")
    parser.add_argument("--video", choices=("true", "false"), default="true")
    parser.add_argument("--codec", choices=CODECS, default=CODECS[0])
    parser.add_argument("--image_key", default=IMAGE_KEY, help="what the frames are called there")
    given = parser.parse_args(arguments)
    try:
        store = StepStore.open(given.dataset)
        codec = given.codec if given.video == "true" else None
        export_lerobot(store, given.output, codec=codec, image_key=given.image_key)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return 130
    print(f"{given.output}: {len(store)} episodes ({int(store.lengths.sum())} steps)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
