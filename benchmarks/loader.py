"""Data on its way: import against reading, windows a second against tf.data, memory by size.

    python benchmarks/loader.py --what=import,speed,memory --output=out/loader.json

Makes its data in --directory: RLDS written by TFDS (256 x 320 JPEG frames, 44 steps an episode),
and datasets of 1,000 and 100,000 episodes of tiny frames. Every rate is wall time of a process of
its own with the same cores; compare within one run.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
from PIL import Image

STEPS = 44  # of an episode, as fractal's mean
FRAMES = 6
NAME = "fractal20220817_data"


def main() -> None:
    """Runs what is asked for and prints it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--what", default="import,speed,memory")
    parser.add_argument("--directory", help="for the data; a temporary one by default")
    parser.add_argument("--episodes", type=int, default=300, help="of the RLDS files")
    parser.add_argument("--windows", type=int, default=1920, help="timed, of each loader")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--chunk", type=int, default=STEPS - FRAMES + 1, help="windows a chunk")
    parser.add_argument("--buffer", type=int, default=10_000, help="of tf.data's shuffle, windows")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = pathlib.Path(given.directory or temporary)
        found = {}
        for what in given.what.split(","):
            found[what] = {
                "import": measure_import,
                "speed": measure_speed,
                "memory": measure_memory,
            }[what](root, given)
            print(what)
            for name, value in found[what].items():
                print(f"  {name}: {value}", flush=True)
    if given.output:
        pathlib.Path(given.output).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(given.output).write_text(json.dumps(found, indent=1))


# ---- Import.


def measure_import(root: pathlib.Path, given: Any) -> dict[str, Any]:
    """MB a second of reading TFRecords, and of importing them.

    Once from the disk, as data are that do not fit memory, and once from the system's cache.
    """
    builder_dir = rlds_files(root, given.episodes)
    size = sum(path.stat().st_size for path in builder_dir.glob("*tfrecord*")) / 1e6
    found: dict[str, Any] = {"MB": round(size)}
    for where in ("disk", "cache"):
        rates: dict[str, list[float]] = {}
        for repeat in range(given.repeats):
            jobs: dict[str, Any] = {
                "TFRecords read by tf.data": (read_tfrecords, (builder_dir,)),
                "episodes read by TFDS, frames not decoded": (read_tfds, (builder_dir,)),
            }
            outputs = []
            for processes in (1, 2):
                for kind, link in (("import", False), ("import --link", True)):
                    outputs.append(root / f"imported_{where}{repeat}_{len(outputs)}")
                    jobs[f"{kind}, {processes} processes"] = (
                        import_files,
                        (builder_dir, outputs[-1], processes, link),
                    )
            for name, (function, arguments) in jobs.items():
                if where == "disk":
                    evict(builder_dir)
                seconds = in_process(function, *arguments)["seconds"]
                rates.setdefault(name, []).append(size / seconds)
            for output in outputs:
                shutil.rmtree(output)
        for name, values in rates.items():
            found[f"{where}: {name}, MB/s"] = spread(values)
        readers = ("TFRecords read by tf.data", "episodes read by TFDS, frames not decoded")
        for name, values in rates.items():
            for reader in readers if name.startswith("import") else ():
                ratios = np.asarray(values) / np.asarray(rates[reader])
                found[f"{where}: {name} / {reader}"] = spread(ratios)
    return found


def evict(directory: pathlib.Path) -> None:
    """Makes the system forget a directory's files, which are on the disk already."""
    os.sync()
    for path in directory.iterdir():
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_tfrecords(builder_dir: pathlib.Path) -> dict[str, float]:
    """Reads all records' bytes with tf.data."""
    tf = _tensorflow()
    files = sorted(map(str, builder_dir.glob("*tfrecord*")))
    started = time.perf_counter()
    for _ in tf.data.TFRecordDataset(files).as_numpy_iterator():
        pass
    return {"seconds": time.perf_counter() - started}


def read_tfds(builder_dir: pathlib.Path) -> dict[str, float]:
    """Reads all episodes with TFDS, frames left encoded."""
    _tensorflow()
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(builder_dir))
    decoders = {"steps": {"observation": {"image": tfds.decode.SkipDecoding()}}}
    started = time.perf_counter()
    dataset = builder.as_dataset(split="train", decoders=decoders)
    for _ in dataset.flat_map(lambda episode: episode["steps"].batch(1000)):
        pass
    return {"seconds": time.perf_counter() - started}


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


# ---- Speed.


def measure_speed(root: pathlib.Path, given: Any) -> dict[str, Any]:
    """Training windows a second of each loader, and the share of decoding."""
    builder_dir = rlds_files(root, given.episodes)
    output, links = root / "imported", root / "linked"
    for directory, link in ((output, False), (links, True)):
        if not (directory / "dataset.json").exists():
            in_process(import_files, builder_dir, directory, 1, link)
    jobs = {
        "windows": (time_loader, (output, given, 1)),
        "windows, linked": (time_loader, (links, given, 1)),
        f"chunks of {given.chunk}, linked": (time_loader, (links, given, given.chunk)),
        f"chunks of {given.chunk}": (time_loader, (output, given, given.chunk)),
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


def time_loader(directory: pathlib.Path, given: Any, chunk: int) -> dict[str, float]:
    """This project's loader, on imported data."""
    from rt1_jax.data.loader import make_loader
    from rt1_jax.data.store import StepStore

    batch_size = max(1, given.batch_size // chunk)
    loader = make_loader(
        StepStore.open(directory),
        frames=FRAMES,
        batch_size=batch_size,
        seed=0,
        chunk=chunk,
        workers=given.workers,
        threads=2,
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
    tf = _tensorflow()
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


# ---- Memory.


def measure_memory(root: pathlib.Path, given: Any) -> dict[str, Any]:
    """MB of the loader's processes, most over 200 batches, by number of episodes."""
    found: dict[str, Any] = {}
    peaks = {}
    for episodes in (1_000, 100_000):
        directory = root / f"tiny{episodes}"
        if not (directory / "dataset.json").exists():
            in_process(write_tiny, directory, episodes)
        result = in_process(watch_memory, directory, given)
        peaks[episodes] = result["megabytes"]
        found[f"{episodes} episodes, MB"] = round(result["megabytes"])
        found[f"{episodes} episodes, s to the first batch"] = round(result["first_seconds"], 2)
    found["growth"] = f"{peaks[100_000] / peaks[1_000] - 1:+.1%}"
    return found


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


def watch_memory(directory: pathlib.Path, given: Any) -> dict[str, float]:
    """The most memory while 200 batches are read."""
    from rt1_jax.data.loader import make_loader
    from rt1_jax.data.store import StepStore

    started = time.perf_counter()
    loader = make_loader(
        StepStore.open(directory),
        frames=FRAMES,
        batch_size=given.batch_size,
        seed=0,
        workers=given.workers,
        threads=2,
    )
    batches = iter(loader)
    next(batches)
    first = time.perf_counter() - started
    peak = 0.0
    for number in range(200):
        next(batches)
        if number % 10 == 9:
            peak = max(peak, tree_megabytes())
    return {"megabytes": peak, "first_seconds": first}


# ---- Parts.


def rlds_files(root: pathlib.Path, episodes: int) -> pathlib.Path:
    """RLDS of fractal's keys that matter here, frames of some noise: 37 kB each."""
    directory = root / f"rlds{episodes}"
    if not (directory / "dataset_info.json").exists():
        directory.mkdir(parents=True, exist_ok=True)
        in_process(write_rlds, directory, episodes)
    return directory


def write_rlds(directory: pathlib.Path, episodes: int) -> dict[str, float]:
    """Writes RLDS with TFDS's own writer."""
    _tensorflow()
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


def _picture(rng: np.random.Generator) -> bytes:
    smooth = Image.fromarray(rng.integers(0, 256, (16, 20, 3), np.uint8))
    pixels = np.asarray(smooth.resize((320, 256), Image.Resampling.BICUBIC)).astype(int)
    noisy = np.clip(pixels + rng.integers(-8, 9, pixels.shape), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, "jpeg", quality=95)
    return buffer.getvalue()


def in_process(function: Any, *arguments: Any) -> dict[str, Any]:
    """A function's result from a fresh process."""
    context = multiprocessing.get_context("spawn")
    mine, its = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(its, function, arguments))
    process.start()
    its.close()
    try:
        found = mine.recv()
    except EOFError:
        raise SystemExit(f"{function.__name__} failed, see above") from None
    process.join()
    return found


def _run(pipe: Any, function: Any, arguments: Any) -> None:
    pipe.send(function(*arguments))
    pipe.close()
    sys.stdout.flush()
    # Loaders' threads and workers go with the process.
    for child in psutil.Process().children(recursive=True):
        child.kill()
    os._exit(0)


def tree_megabytes() -> float:
    """Memory of this process and its children; what they share counts once."""
    process = psutil.Process()
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total / 1e6


def spread(values: Any) -> str:
    """Median, least and most."""
    low, middle, high = np.min(values), np.median(values), np.max(values)
    digits = 2 if middle < 10 else 0
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    return tf


if __name__ == "__main__":
    main()
