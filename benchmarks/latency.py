"""Milliseconds of a policy's step, against a plain reference path and the machine's floor.

    python benchmarks/latency.py [--models=rt1,rt1_x,small,bc_z,gato] [--batches=1,8,64]
        [--compute=float32,bfloat16] [--seconds=20] [--reference_seconds=120] [--json=FILE]

The reference path re-encodes all frames of the window at every step, with XLA's grouped depthwise
convolutions and normalisation as trained, and runs the transformer over all positions. It takes
turns with the policy's steps, so that both see the same load, and gives the numbers that the
policy's must be equal to. Where one step of it would take longer than --reference_seconds allows,
it is left out.

The floor is what the arithmetic would take at the rates that this machine shows in the same run:
multiply-adds of all products and convolutions of one step at the rate of a large matrix product in
float32, plus every weight read once. `window full` is a step after the window has filled; `filling`
is one before, where the policy keeps keys and values (RT-1-X).

Weights are random, but for `small`, the policy `tabletop-small`. First action and memory are those
of fresh processes that load a checkpoint and step; TensorFlow must not be imported there.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from support.random_policies import describe, parameter_count, random_variables

from rt1_jax.checkpoints import native
from rt1_jax.models.registry import build
from rt1_jax.policies.load import load_policy
from rt1_jax.policies.streaming import Policy

MODELS = ("rt1", "rt1_x", "small", "bc_z", "gato")


@dataclasses.dataclass(frozen=True)
class Rates:
    """What the machine does, measured now."""

    float32: float  # FLOP/s of a product of 2048 x 2048 matrices
    bfloat16: float  # likewise, adding up in float32
    int8: float  # likewise, adding up in int32
    memory: float  # bytes/s read of 256 MiB


def measure_rates() -> Rates:
    """The best of several tries each."""

    def product(kind: Any, total: Any) -> float:
        a = jnp.ones((2048, 2048), kind)
        dims = (((1,), (0,)), ((), ()))
        multiply = jax.jit(
            lambda a, b: jax.lax.dot_general(a, b, dims, preferred_element_type=total)
        )
        return 2 * 2048**3 / min(times(lambda: multiply(a, a), 1.0))

    block = jnp.ones((64 << 20,), jnp.float32)
    read = jax.jit(lambda x: x.sum())
    return Rates(
        product(jnp.float32, jnp.float32),
        product(jnp.bfloat16, jnp.float32),
        product(jnp.int8, jnp.int32),
        block.nbytes / min(times(lambda: read(block), 1.0)),
    )


def times(function: Callable[[], Any], seconds: float, least: int = 3) -> list[float]:
    """Seconds of each call, as many as fit."""
    jax.block_until_ready(function())
    found: list[float] = []
    while len(found) < least or sum(found) < seconds:
        start = time.perf_counter()
        jax.block_until_ready(function())
        found.append(time.perf_counter() - start)
    return found


def load(name: str) -> tuple[native.PolicyDescription, Any]:
    """A policy's description and variables (NumPy)."""
    if name == "small":
        root = native.find_checkpoint("tabletop-small")
        return native.read_description(root), native.load_variables(root)
    description = describe(name)
    return description, random_variables(description)


def grouped(config: Any) -> Any:
    """The config with XLA's grouped depthwise convolution."""
    tokenizer = getattr(config, "image_tokenizer", None)
    if tokenizer is None:
        return config
    efficientnet = dataclasses.replace(tokenizer.efficientnet, depthwise="grouped")
    tokenizer = dataclasses.replace(tokenizer, efficientnet=efficientnet)
    return dataclasses.replace(config, image_tokenizer=tokenizer)


class Reference:
    """The plain path: the whole window from pixels at every step."""

    def __init__(self, description: native.PolicyDescription, variables: Any) -> None:
        model = build(description.architecture, description.model)
        self.model = model.clone(config=grouped(model.config))
        self.variables = jax.device_put(variables)
        statistics = description.embedding_statistics
        self._told = (lambda e: e) if statistics is None else statistics.apply
        self._apply = jax.jit(self.model.apply)
        self._encode = jax.jit(functools.partial(self.model.apply, method="encode_frames"))
        self._decode = jax.jit(
            lambda v, t, a: self.model.apply(v, t, action_tokens=a, method="decode_tokens")
        )

    def __call__(self, images: np.ndarray, embeddings: np.ndarray, actions: Any) -> np.ndarray:
        """The newest frame's outputs of windows [b, t, h, w, 3]."""
        told = self._told(embeddings)
        config: Any = self.model.config
        if config.decoding != "autoregressive":
            return np.asarray(self._apply(self.variables, images, told))[:, -1]
        b, t = images.shape[:2]
        tokens: Any = self._encode(self.variables, images.reshape(b * t, *images.shape[2:]), told)
        tokens = tokens.reshape(b, t, *tokens.shape[1:])
        chosen = np.array(actions)  # [b, t, action_tokens]; the last step's are found one by one
        for k in range(config.action_tokens):
            logits = np.asarray(self._decode(self.variables, tokens, chosen))[:, -1]
            chosen[:, -1, k] = logits[:, k].argmax(-1)
        return logits


def floor_seconds(
    description: native.PolicyDescription, variables: Any, batch: int, rates: Rates, filling: bool
) -> float:
    """What a step's products and weights would take at the machine's rates."""
    model = build(description.architecture, description.model)
    model = model.clone(config=grouped(model.config))
    policy = Policy(model, variables, description)
    state = policy.initial_state(batch, keep=filling)
    prepared = policy._prepared  # counted, not run
    images = np.zeros((batch, *description.image_size, 3), np.uint8)
    told = policy._instruct(np.zeros((batch, description.encoder.dimensions), np.float32))
    if filling:
        caches = policy._usable_caches(state, np.zeros(batch, int))
        traced = policy._next.trace(prepared.variables, state, images, told, caches=caches)
    else:
        traced = policy._full.trace(prepared.variables, state, images, told, keep=False)
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(prepared.variables))
    return count_flops(traced.jaxpr.jaxpr) / rates.float32 + weights / rates.memory


def count_flops(jaxpr: Any) -> int:
    """Twice the multiply-adds of products and convolutions, loops counted as often as they run."""
    total = 0
    for equation in jaxpr.eqns:
        shapes = [v.aval.shape for v in equation.invars if hasattr(v.aval, "shape")]
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            inner = np.prod([shapes[0][axis] for axis in contracted])
            total += 2 * int(np.prod(equation.outvars[0].aval.shape) * inner)
        elif equation.primitive.name == "conv_general_dilated":
            kernel = equation.params["dimension_numbers"].rhs_spec  # (out, in, *spatial)
            inner = np.prod([shapes[1][axis] for axis in kernel[1:]])
            total += 2 * int(np.prod(equation.outvars[0].aval.shape) * inner)
        often = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += often * sum(count_flops(inner) for inner in _inner(equation.params))
    return total


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    for value in params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            item = getattr(item, "jaxpr", item)
            if hasattr(item, "eqns"):
                yield item


def measure(
    name: str, batch: int, compute: str, rates: Rates, seconds: float, reference_seconds: float
) -> list[dict[str, Any]]:
    """The rows of a policy at a batch size: window full, and filling where it keeps."""
    description, variables = load(name)
    model = build(description.architecture, description.model)
    policy = Policy(model, variables, description, compute)
    frames = model.config.frames
    rng = np.random.default_rng(1)
    shape = (frames, batch, *description.image_size, 3)
    images = rng.integers(0, 256, shape, np.uint8)
    embeddings = rng.standard_normal((batch, description.encoder.dimensions), np.float32)
    reference = Reference(description, variables)
    keeps = policy.initial_state(batch).keep
    rows = []
    for filling in (False, True) if keeps else (False,):
        policy.warm_up(batch, keep=filling)
        row: dict[str, Any] = {
            "model": name,
            "parameters": parameter_count(variables),
            "compute": compute,
            "batch": batch,
            "window": "filling" if filling else "full",
        }
        state = policy.initial_state(batch, keep=filling)
        found: list[float] = []
        for t in range(frames):  # the window's own frames: what the reference is given
            state, outputs, took = _step(policy, state, images[t], embeddings)
            if filling and t:
                found.append(took)
        windows = np.moveaxis(images, 0, 1)
        limit = reference_seconds if not rows else 0.0
        slow, wanted = _reference(reference, windows, embeddings, state, limit)
        if wanted is not None:
            row |= _compare(outputs, wanted, model.config.decoding)
        if not filling:
            while len(found) < 5 or sum(found) < seconds:
                state, _, took = _step(policy, state, images[len(found) % frames], embeddings)
                found.append(took)
                if slow and len(found) % 5 == 0 and len(slow) < 5 and sum(slow) < reference_seconds:
                    slow += _reference(reference, windows, embeddings, state, 1e9, warm=True)[0]
            plain = float(np.median(slow)) if slow else None
        floor = floor_seconds(description, variables, batch, rates, filling)
        median = float(np.median(found))
        row |= {
            "ms": 1e3 * median,
            "p95": 1e3 * float(np.quantile(found, 0.95)),
            "p99": 1e3 * float(np.quantile(found, 0.99)),
            "steps": len(found),
            "reference ms": None if plain is None else 1e3 * plain,
            "times faster": None if plain is None else plain / median,
            "floor ms": 1e3 * floor,
            "times floor": median / floor,
        }
        rows.append(row)
    return rows


def _step(policy: Policy, state: Any, image: Any, told: Any) -> tuple[Any, np.ndarray, float]:
    start = time.perf_counter()
    state, action, outputs = policy.step_with_logits(state, image, told)
    jax.block_until_ready(action)
    return state, np.asarray(outputs), time.perf_counter() - start


def _reference(
    reference: Reference, windows: Any, told: Any, state: Any, limit: float, warm: bool = False
) -> tuple[list[float], Any]:
    """Seconds of one call (after one that compiles), and its outputs; nothing beyond the limit."""
    if limit <= 0:
        return [], None
    actions = state.actions
    if not warm:
        reference(windows[:1], told[:1], actions[:1])
        start = time.perf_counter()
        reference(windows[:1], told[:1], actions[:1])
        if (time.perf_counter() - start) * len(windows) > limit:
            return [], None
        if len(windows) > 1:
            reference(windows, told, actions)
    start = time.perf_counter()
    outputs = reference(windows, told, actions)
    return [time.perf_counter() - start], outputs


def _compare(outputs: np.ndarray, wanted: np.ndarray, decoding: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "largest difference": float(np.abs(outputs - wanted).max()),
        "largest output": float(np.abs(wanted).max()),
    }
    if decoding != "continuous":
        found["tokens equal"] = float((outputs.argmax(-1) == wanted.argmax(-1)).mean())
    return found


def fresh_process(name: str, compute: str) -> dict[str, float]:
    """First action (compilation cache warm) and memory of a process that only serves."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = pathlib.Path(folder) / "policy"
        description, variables = load(name)
        native.save_checkpoint(checkpoint, description, variables)
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}
        found: dict[str, float] = {}
        for run in ("empty", "warm"):
            command = [sys.executable, __file__, "--alone", str(checkpoint), compute]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
            numbers = json.loads(done.stdout.splitlines()[-1])
            found[f"first action, {run} cache, s"] = numbers["seconds"]
        found["memory MiB"] = numbers["memory"]
    return found


def alone(checkpoint: str, compute: str) -> dict[str, float]:
    """Loads, steps twenty times, and tells."""
    start = time.perf_counter()
    policy = load_policy(checkpoint, compute=compute)
    state = policy.initial_state()
    image = np.zeros((1, *policy.description.image_size, 3), np.uint8)
    told = np.ones((1, policy.description.encoder.dimensions), np.float32)
    state, action = policy.step(state, image, told)
    jax.block_until_ready(action)
    seconds = time.perf_counter() - start
    for _ in range(20):
        state, action = policy.step(state, image, told)
        jax.block_until_ready(action)
    if "tensorflow" in sys.modules:
        raise SystemExit("error: TensorFlow was imported")
    # Not getrusage: its peak is handed down by the process that started this one.
    status = pathlib.Path("/proc/self/status").read_text().split()
    return {"seconds": seconds, "memory": int(status[status.index("VmHWM:") + 1]) / 1024}


COLUMNS = {
    "model": "{}", "compute": "{}", "batch": "{}", "window": "{}", "ms": "{:.1f}", "p95": "{:.1f}",
    "p99": "{:.1f}", "reference ms": "{:.0f}", "times faster": "{:.1f}", "floor ms": "{:.1f}",
    "times floor": "{:.2f}", "largest difference": "{:.1e}", "tokens equal": "{:.4f}",
}  # fmt: skip


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--batches", default="1,8,64")
    parser.add_argument("--compute", default="float32")
    parser.add_argument("--seconds", type=float, default=20, help="of steps, for each row")
    parser.add_argument("--reference_seconds", type=float, default=120)
    parser.add_argument("--no_first_action", action="store_true")
    parser.add_argument("--json", type=pathlib.Path, help="write the numbers here")
    parser.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.alone:
        print(json.dumps(alone(*flags.alone)))
        return
    rates = measure_rates()
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; products, GFLOP/s: "
        f"{rates.float32 / 1e9:.0f} in float32, {rates.bfloat16 / 1e9:.0f} with bfloat16 operands, "
        f"{rates.int8 / 1e9:.0f} with int8 ones; memory {rates.memory / 1e9:.1f} GB/s\n"
    )
    print("| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS), flush=True)
    rows: list[dict[str, Any]] = []
    models, computes = flags.models.split(","), flags.compute.split(",")
    for name in models:
        for batch in map(int, flags.batches.split(",")):
            for compute in computes:
                for row in measure(
                    name, batch, compute, rates, flags.seconds, flags.reference_seconds
                ):
                    rows.append(row)
                    cells = [
                        "–" if row.get(c) is None else form.format(row[c])
                        for c, form in COLUMNS.items()
                    ]
                    print("| " + " | ".join(cells) + " |", flush=True)
    processes: dict[str, Any] = {}
    if not flags.no_first_action:
        print("\n| model | compute | first action, empty cache | warm cache | memory |")
        print("| --- | --- | --- | --- | --- |")
        for name in models:
            for compute in computes:
                found = processes[f"{name} {compute}"] = fresh_process(name, compute)
                cold, warm, memory = found.values()
                print(f"| {name} | {compute} | {cold:.1f} s | {warm:.1f} s | {memory:.0f} MiB |")
    print(f"\nload {os.getloadavg()[0]:.1f} after")
    if flags.json:
        content = {"rates": dataclasses.asdict(rates), "rows": rows, "processes": processes}
        flags.json.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
