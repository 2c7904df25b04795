"""Training windows a second, of this project's loaders against a plain tf.data pipeline.

    python benchmarks/loader.py --output=out/loader.json

Makes its files in --directory: RLDS written by TFDS (256 x 320 JPEG frames, 44 steps an episode),
and imports them. Every rate is wall time of a process of its own with the same cores; compare
within one run.
"""

from __future__ import annotations

import argparse
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from support.isolated import in_process, spread, tree_megabytes
from support.report import report
from support.robot_data import NAME, STEPS, import_files, rlds_files

FRAMES = 6


def main() -> None:
    """Runs it and prints it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directory", help="for the data; a temporary one by default")
    parser.add_argument("--episodes", type=int, default=300, help="of the RLDS files")
    parser.add_argument("--windows", type=int, default=1920, help="timed, of each loader")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2, help="processes, where it is processes")
    parser.add_argument("--threads", type=int, default=2, help="of the one process, where not")
    parser.add_argument("--chunk", type=int, default=STEPS - FRAMES + 1, help="windows a chunk")
    parser.add_argument("--buffer", type=int, default=10_000, help="of tf.data's shuffle, windows")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output")
    given = parser.parse_args()
    report(measure_speed, given)


def measure_speed(root: pathlib.Path, given: Any) -> dict[str, Any]:
    """Training windows a second of each loader, and the share of decoding."""
    builder_dir = rlds_files(root, given.episodes)
    output, links = root / "imported", root / "linked"
    for directory, link in ((output, False), (links, True)):
        if not (directory / "dataset.json").exists():
            in_process(import_files, builder_dir, directory, 1, link)
    chunks = f"chunks of {given.chunk}"
    jobs = {
        "windows, threads": (time_loader, (output, given, 1, 0)),
        "windows, processes": (time_loader, (output, given, 1, given.workers)),
        f"{chunks}, linked, threads": (time_loader, (links, given, given.chunk, 0)),
        f"{chunks}, threads": (time_loader, (output, given, given.chunk, 0)),
        f"{chunks}, processes": (time_loader, (output, given, given.chunk, given.workers)),
        "RLDS as it is": (time_stream, (builder_dir, given)),
        "tf.data": (time_tf_data, (builder_dir, given)),
    }
    rates: dict[str, list[float]] = {}
    memory: dict[str, float] = {}
    found: dict[str, Any] = {}
    for _ in range(given.repeats):
        for name, (function, arguments) in jobs.items():
            result = in_process(function, *arguments)
            rates.setdefault(name, []).append(result["windows_per_second"])
            memory[name] = max(memory.get(name, 0.0), result["megabytes"])
            if "fill_seconds" in result:
                found[f"{name}, s to its first batch"] = round(result["fill_seconds"], 1)
    base = np.asarray(rates["tf.data"])
    for name, values in rates.items():
        found[f"{name}, windows/s"] = spread(values)
        found[f"{name}, MB of its processes"] = round(memory[name])
        if name != "tf.data":
            found[f"{name} / tf.data"] = spread(np.asarray(values) / base)
    found |= in_process(time_decoding, output, given)
    return found


def time_loader(directory: pathlib.Path, given: Any, chunk: int, workers: int) -> dict[str, float]:
    """This project's loader, on imported data, in worker processes or in threads of this one."""
    from rt1_jax.data.loader import make_loader
    from rt1_jax.data.store import StepStore

    batch_size = max(1, given.batch_size // chunk)
    loader = make_loader(
        StepStore.open(directory),
        frames=FRAMES,
        batch_size=batch_size,
        seed=0,
        chunk=chunk,
        workers=workers,
        threads=2 if workers else given.threads,
    )
    return time_batches(iter(loader), given.windows, warm_up=8)


def time_stream(builder_dir: pathlib.Path, given: Any) -> dict[str, float]:
    """This project's loader, on the RLDS files."""
    from rt1_jax.data import oxe
    from rt1_jax.data.loader import in_workers
    from rt1_jax.data.rlds.convert import Frames
    from rt1_jax.data.rlds.source import RLDSSource
    from rt1_jax.data.rlds.stream import RLDSStream

    stream = RLDSStream(
        oxe.get(NAME),
        RLDSSource.open(builder_dir),
        frames=FRAMES,
        seed=0,
        image=Frames("jpeg", (256, 320)),
    )
    batches = in_workers(stream.batch(given.batch_size), 1)
    return time_batches(iter(batches), given.windows // 2, warm_up=4)


def time_tf_data(builder_dir: pathlib.Path, given: Any) -> dict[str, float]:
    """Interleave, decode, window, shuffle, batch: every window takes whole frames along."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(builder_dir))
    options = tfds.ReadConfig(interleave_cycle_length=16, shuffle_seed=0)
    episodes = builder.as_dataset(split="train", shuffle_files=True, read_config=options)

    def select(step: dict[str, Any]) -> dict[str, Any]:
        return {
            "images": step["observation"]["image"],
            "embedding": step["observation"]["natural_language_embedding"],
            "actions": step["action"],
        }

    def windows(episode: dict[str, Any]) -> Any:
        steps = episode["steps"].map(select, num_parallel_calls=tf.data.AUTOTUNE)
        whole = steps.batch(1000)  # one window an episode, of all its steps

        def slices(run: Any) -> Any:
            length = tf.shape(run["images"])[0]
            starts = tf.data.Dataset.range(tf.cast(length - FRAMES + 1, tf.int64))
            return starts.map(
                lambda start: tf.nest.map_structure(lambda x: x[start : start + FRAMES], run)
            )

        return whole.flat_map(slices)

    dataset = (
        episodes.repeat()
        .interleave(windows, cycle_length=16, num_parallel_calls=tf.data.AUTOTUNE)
        .shuffle(given.buffer, seed=0)
        .batch(given.batch_size)
        .prefetch(tf.data.AUTOTUNE)
    )
    started = time.perf_counter()
    batches = dataset.as_numpy_iterator()
    next(batches)
    filled = time.perf_counter() - started
    return {**time_batches(batches, given.windows, warm_up=2), "fill_seconds": filled}


def time_batches(batches: Iterator[Any], wanted: int, warm_up: int) -> dict[str, float]:
    """Windows a second, after some batches to warm up; memory at the end."""
    for _ in range(warm_up):
        next(batches)
    windows, started = 0.0, time.perf_counter()
    while windows < wanted:
        batch = next(batches)
        windows += batch["windows"].sum() if "windows" in batch else len(batch["images"])
    seconds = time.perf_counter() - started
    return {"windows_per_second": windows / seconds, "megabytes": tree_megabytes()}


def time_decoding(directory: pathlib.Path, given: Any) -> dict[str, Any]:
    """The share of decoding in the reading of windows, in one thread."""
    from rt1_jax.data import windows as windows_room
    from rt1_jax.data.episode import decode_image
    from rt1_jax.data.store import StepStore

    store = StepStore.open(directory)
    frames = store.read_encoded(0).frames
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {}
    for name, source in (
        ("a window", windows_room.WindowSource(store, FRAMES)),
        (f"a chunk of {given.chunk}", windows_room.ChunkSource(store, FRAMES, given.chunk)),
    ):
        order = rng.integers(0, len(source), 60)
        started = time.perf_counter()
        images = sum(len(source[int(i)]["images"]) for i in order)
        reading = time.perf_counter() - started
        started = time.perf_counter()
        for i in range(images):
            decode_image(frames[i % len(frames)])
        decoding = time.perf_counter() - started
        found[f"decoding's share of {name}"] = f"{decoding / reading:.0%}"
        found[f"ms {name}, one thread"] = round(1e3 * reading / len(order), 2)
    return found


if __name__ == "__main__":
    main()
