"""Importing RLDS against merely reading it.

    python benchmarks/import_rlds.py --episodes=1500 --output=out/import.json

Makes its files in --directory: RLDS written by TFDS, 44 steps an episode, frames of 256 x 320 in
JPEG, 1.7 MB an episode. Every rate is wall time of a process of its own with the same cores;
compare within one run.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import time
from typing import Any

import numpy as np
from support.isolated import in_process, spread
from support.report import report
from support.robot_data import import_files, rlds_files


def main() -> None:
    """Runs it and prints it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directory", help="for the data; a temporary one by default")
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output")
    given = parser.parse_args()
    report(measure_import, given)


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
    import tensorflow as tf

    files = sorted(map(str, builder_dir.glob("*tfrecord*")))
    started = time.perf_counter()
    for _ in tf.data.TFRecordDataset(files).as_numpy_iterator():
        pass
    return {"seconds": time.perf_counter() - started}


def read_tfds(builder_dir: pathlib.Path) -> dict[str, float]:
    """Reads all episodes with TFDS, frames left encoded."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(builder_dir))
    decoders = {"steps": {"observation": {"image": tfds.decode.SkipDecoding()}}}
    started = time.perf_counter()
    dataset = builder.as_dataset(split="train", decoders=decoders)
    for _ in dataset.flat_map(lambda episode: episode["steps"].batch(1000)):
        pass
    return {"seconds": time.perf_counter() - started}


if __name__ == "__main__":
    main()
