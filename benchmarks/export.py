"""Exports of the full RT-1: size, time to make, time to the first action elsewhere, difference.

    python benchmarks/export.py [--format=stablehlo,saved_model,onnx] [--checkpoint=PATH]
        [--json=FILE]

RT-1 (35,120,544 parameters) with random weights, unless a checkpoint is given. Each artefact is
loaded in a fresh process that cannot import this package, and takes nine steps of one robot; tokens
and logits are compared with the policy's own. Formats whose packages are missing are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

STEPS = 9
PARTS = ("import", "load", "first step", "later step")


def step_stablehlo(folder: str) -> tuple[Any, Callable[..., Any]]:
    """The state, and a step that gives (state, logits)."""
    sys.path.insert(0, folder)
    from policy import ExportedPolicy

    policy = ExportedPolicy()

    def step(state: Any, image: Any, embedding: Any) -> tuple[Any, np.ndarray]:
        state, _, logits = policy.step_with_logits(state, image, embedding)
        return state, np.asarray(logits)

    return policy.initial_state(1), step


def step_saved_model(folder: str) -> tuple[Any, Callable[..., Any]]:
    """As `step_stablehlo`."""
    import tensorflow as tf

    loaded = tf.saved_model.load(folder)
    serve, later = loaded.signatures["step"], tf.ones(1, tf.int32)

    def step(state: Any, image: Any, embedding: Any) -> tuple[Any, np.ndarray]:
        inputs = {"image": image, "natural_language_embedding": embedding}
        inputs = {name: tf.constant(value) for name, value in inputs.items()}
        outputs = serve(step_type=later, **inputs, **state)
        return {name: outputs[name] for name in state}, outputs["logits"].numpy()

    return loaded.signatures["initial_state"](batch_size=tf.constant(1)), step


def step_onnx(folder: str) -> tuple[Any, Callable[..., Any]]:
    """As `step_stablehlo`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(f"{folder}/step.onnx")
    outputs = [output.name for output in session.get_outputs()]
    leaves = json.loads(pathlib.Path(folder, "config.json").read_text())["state"]

    def step(state: Any, image: Any, embedding: Any) -> tuple[Any, np.ndarray]:
        found = session.run(None, {"images": image, "embeddings": embedding, **state})
        named = dict(zip(outputs, found, strict=True))
        return {f"state_{name}": named[f"next_{name}"] for name in leaves}, named["logits"]

    state = {
        f"state_{name}": np.full((1, *leaf["shape"][1:]), leaf["initial"], leaf["dtype"])
        for name, leaf in leaves.items()
    }
    return state, step


RUNTIMES = {
    "stablehlo": ("jax", step_stablehlo),
    "saved_model": ("tensorflow", step_saved_model),
    "onnx": ("onnxruntime", step_onnx),
}


def run(kind: str, folder: str, inputs: str) -> dict[str, Any]:
    """What the fresh process does; times in seconds."""
    sys.modules["rt1_jax"] = None  # type: ignore[assignment]  # importing it fails from here on
    started = time.perf_counter()
    package, start = RUNTIMES[kind]
    importlib.import_module(package)
    imported = time.perf_counter()
    state, step = start(folder)
    times, logits = [time.perf_counter()], []
    with np.load(inputs) as given:
        images, embedding = given["images"], given["embedding"]
    for image in images:
        state, newest = step(state, image, embedding)
        logits.append(newest)
        times.append(time.perf_counter())
    np.save(f"{folder}.npy", np.stack(logits))
    steps = np.diff(times)
    seconds = (imported - started, times[0] - imported, steps[0], float(np.median(steps[1:])))
    return dict(zip(PARTS, map(float, seconds), strict=True))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--format", default="stablehlo,saved_model,onnx")
    parser.add_argument("--checkpoint", help="instead of the full RT-1 with random weights")
    parser.add_argument("--json", type=pathlib.Path, help="write the numbers here")
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.run:
        print(json.dumps(run(*flags.run)))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(flags.checkpoint, flags.format.split(","), pathlib.Path(folder))
    if flags.json:
        flags.json.write_text(json.dumps(rows, indent=1))


def measure(checkpoint: str | None, formats: list[str], root: pathlib.Path) -> list[dict[str, Any]]:
    """Exports, runs and compares; a row a format."""
    from rt1_jax.policies.export.export import export_policy
    from rt1_jax.policies.load import load_policy

    policy = load_policy(checkpoint) if checkpoint else full_policy()
    rng = np.random.default_rng(0)
    size = (*policy.description.image_size, 3)
    images = rng.integers(0, 255, (STEPS, 1, *size), np.uint8)
    # Of the length of a sentence's embedding.
    embedding = rng.normal(size=(1, policy.description.encoder.dimensions)).astype(np.float32)
    embedding /= np.linalg.norm(embedding)
    np.savez(root / "inputs.npz", images=images, embedding=embedding)
    state, expected = policy.initial_state(1), []
    for image in images:
        state, _, logits = policy.step_with_logits(state, image, embedding)
        expected.append(np.asarray(logits))
    reference = np.stack(expected)
    print(f"logits of the policy itself: largest {np.abs(reference).max():.3g}")
    print(f"load {os.getloadavg()[0]:.1f}; seconds but where another unit stands\n")
    head = ("format", "MB", "export", *PARTS, "same tokens", "largest difference")
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head), flush=True)
    rows = []
    for kind in formats:
        needs = ("jax2onnx", "onnxruntime") if kind == "onnx" else (RUNTIMES[kind][0],)
        if missing := [name for name in needs if importlib.util.find_spec(name) is None]:
            print(f"| {kind} | left out: {missing[0]} is not installed |")
            continue
        started = time.perf_counter()
        export_policy(policy, root / f"export-{kind}", formats=[kind])
        seconds = time.perf_counter() - started
        folder = root / f"export-{kind}" / kind
        command = [sys.executable, __file__, "--run", kind, str(folder), str(root / "inputs.npz")]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        found = np.load(f"{folder}.npy")
        row = {
            "format": kind,
            "MB": sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6,
            "export": seconds,
            **json.loads(done.stdout.splitlines()[-1]),
            "same tokens": bool((found.argmax(-1) == reference.argmax(-1)).all()),
            "largest difference": float(np.abs(found - reference).max()),
        }
        rows.append(row)
        text = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()]
        print("| " + " | ".join(text) + " |", flush=True)
    return rows


def full_policy() -> Any:
    """RT-1 at full size, with random weights under which its logits are of an ordinary size."""
    import jax
    from support.random_policies import describe

    from rt1_jax.models.rt1 import RT1, rt1_config
    from rt1_jax.policies.streaming import Policy

    model = RT1(rt1_config())
    config, rng = model.config, np.random.default_rng(0)
    images = jax.ShapeDtypeStruct((1, config.frames, 300, 300, 3), np.uint8)
    embeddings = jax.ShapeDtypeStruct((1, config.embedding_size), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images, embeddings)

    def weights(path: Any, shape: Any) -> np.ndarray:
        name, noise = path[-1].key, rng.standard_normal(shape.shape, np.float32)
        if name in ("scale", "var"):
            return np.exp(0.1 * noise)
        if len(shape.shape) == 1:
            return 0.1 * noise
        depthwise = len(shape.shape) == 3 and shape.shape[0] == shape.shape[1]
        whole = depthwise or path[-2].key == "out"  # all axes but the last are summed over
        fan_in = np.prod(shape.shape[:-1] if whole or len(shape.shape) == 4 else shape.shape[:1])
        return noise * np.sqrt(1 / fan_in).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(weights, shapes)
    count = sum(x.size for x in jax.tree.leaves(variables["params"]))
    print(f"RT-1, {count:,} parameters, random weights")
    return Policy(model, variables, describe("rt1"))


if __name__ == "__main__":
    main()
