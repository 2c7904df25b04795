"""Data of the loaders' benchmarks: RLDS written by TFDS, and datasets of tiny frames."""

from __future__ import annotations

import io
import os
import pathlib
import time
from typing import Any

import numpy as np
from PIL import Image
from support.isolated import in_process

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

NAME = "fractal20220817_data"
STEPS = 44  # of an episode, as fractal's mean


def rlds_files(root: pathlib.Path, episodes: int) -> pathlib.Path:
    """RLDS of fractal's keys that matter here, frames of some noise: 37 kB each."""
    directory = root / f"rlds{episodes}"
    if not (directory / "dataset_info.json").exists():
        directory.mkdir(parents=True, exist_ok=True)
        in_process(write_rlds, directory, episodes)
    return directory


def write_rlds(directory: pathlib.Path, episodes: int) -> dict[str, float]:
    """Writes RLDS with TFDS's own writer."""
    import tensorflow_datasets as tfds

    from rt1_jax.data import oxe

    features = tfds.features
    dataset = oxe.get(NAME)

    def tensor(*shape: int, dtype: Any = np.float32) -> Any:
        return features.Tensor(shape=shape, dtype=dtype)

    fields = {
        field.name: tensor(field.size, dtype=np.int32 if field.kind == "one_hot" else np.float32)
        for field in dataset.action_spec.fields
    }
    steps = features.Dataset(
        {
            "observation": {
                "image": features.Image(shape=(256, 320, 3), encoding_format="jpeg"),
                "natural_language_instruction": features.Text(),
                "natural_language_embedding": tensor(512),
            },
            "action": fields,
            "is_last": features.Scalar(np.bool_),
        }
    )
    info = tfds.core.DatasetInfo(
        builder=tfds.core.dataset_info.DatasetIdentity(
            name=NAME, version=tfds.core.Version("0.1.0"), data_dir=str(directory), module_name=""
        ),
        features=features.FeaturesDict({"steps": steps}),
    )
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=25)
    writer.initialize_splits(["train"])
    rng = np.random.default_rng(0)
    pictures = [_picture(rng) for _ in range(50)]
    for number in range(episodes):
        actions = {
            field.name: rng.uniform(field.low, field.high, (STEPS, field.size))
            for field in dataset.action_spec.fields
        }
        actions["terminate_episode"] = np.eye(3)[[1] * (STEPS - 1) + [0]]
        episode = [
            {
                "observation": {
                    "image": pictures[(7 * number + t) % len(pictures)],
                    "natural_language_instruction": f"pick up object {number % 50}",
                    "natural_language_embedding": np.full(512, number % 50, np.float32),
                },
                "action": {
                    name: value[t].astype(fields[name].np_dtype) for name, value in actions.items()
                },
                "is_last": t == STEPS - 1,
            }
            for t in range(STEPS)
        ]
        writer.add_examples({"train": [{"steps": episode}]})
    writer.close_all()
    return {}


def import_files(
    builder_dir: pathlib.Path, output: pathlib.Path, processes: int = 1, link: bool = False
) -> dict[str, float]:
    """Imports them; TFDS is loaded before the clock starts, as in the other jobs."""
    import tensorflow_datasets as tfds

    from rt1_jax.data import oxe
    from rt1_jax.data.rlds.importer import import_rlds

    dataset = oxe.get(NAME)
    tfds.builder_from_directory(str(builder_dir))
    started = time.perf_counter()
    import_rlds(
        dataset,
        builder_dir,
        output,
        link=link,
        processes=processes,
        max_clipped=1.0,
        progress=False,
    )
    return {"seconds": time.perf_counter() - started}


def write_tiny(directory: pathlib.Path, episodes: int, steps: int = 20) -> dict[str, float]:
    """Frames of 16 x 16 pixels, 100 episodes a shard, each ten with an instruction of their own."""
    from rt1_jax.actions import RT1
    from rt1_jax.data.encoded import EncodedEpisode
    from rt1_jax.data.episode import encode_image
    from rt1_jax.data.finish import finish_dataset
    from rt1_jax.data.shards import EpisodeWriter
    from rt1_jax.language import EncoderIdentity
    from rt1_jax.language.stored import StoredEmbeddings

    frame = encode_image(np.full((16, 16, 3), 90, np.uint8), "jpeg")
    rng = np.random.default_rng(0)
    actions = {
        field.name: rng.uniform(field.low, field.high, (steps, field.size)).astype(np.float32)
        for field in RT1.fields
    }
    actions["terminate_episode"] = np.eye(3, dtype=np.float32)[[1] * (steps - 1) + [0]]
    paths, table = [], {}
    for shard in range(episodes // 100):
        paths.append(directory / f"shard-{shard:05d}.array_record")
        writer = EpisodeWriter(paths[-1], "jpeg", RT1)
        for number in range(shard * 100, shard * 100 + 100):
            text = f"pick up object {number // 10}"
            table.setdefault(text, np.full(512, number % 97, np.float32))
            writer.add(EncodedEpisode([frame] * steps, actions, text))
        writer.close()
    finish_dataset(
        directory,
        paths,
        action_spec=RT1,
        frame_rate=3.0,
        source={},
        encoder=StoredEmbeddings(EncoderIdentity("stored:tiny"), table),
    )
    return {}


def _picture(rng: np.random.Generator) -> bytes:
    smooth = Image.fromarray(rng.integers(0, 256, (16, 20, 3), np.uint8))
    pixels = np.asarray(smooth.resize((320, 256), Image.Resampling.BICUBIC)).astype(int)
    noisy = np.clip(pixels + rng.integers(-8, 9, pixels.shape), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, "jpeg", quality=95)
    return buffer.getvalue()
