"""Small policies of every kind, rollouts to compare, and processes without this package."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import small

from rt1_jax.actions import TABLETOP
from rt1_jax.models.bc_z import BCZConfig
from rt1_jax.models.gato import GatoConfig
from rt1_jax.models.patch_tokenizer import PatchTokenizerConfig
from rt1_jax.models.registry import build
from rt1_jax.models.resnet import ResNetConfig
from rt1_jax.policies.streaming import Policy
from rt1_jax.training.step import given_actions

FRAMES = 3
STEPS = 10
# Robots of a batch of three start anew at different steps; a single robot does so once.
RESETS = {1: {4: (0,)}, 3: {2: (1,), 5: (2,), 6: (1, 2)}}
# Every batch size is a program to compile: a single robot is tried with one policy.
CASES = (
    ("rt1", 1),
    ("rt1", 3),
    ("autoregressive", 3),
    ("continuous", 3),
    ("gato", 3),
    ("bc_z", 3),
)


def configs() -> dict[str, tuple[str, Any]]:
    """{name: (architecture, config)}, for images of 16 x 16 pixels."""
    rt1 = small.small_model(FRAMES, embedding_size=6)
    tokenizer = dataclasses.replace(rt1.image_tokenizer, language="token")
    gato = GatoConfig(
        patches=PatchTokenizerConfig((16, 16), 8, token_size=16, channels=8, groups=2),
        transformer=dataclasses.replace(rt1.transformer, feed_forward="gelu", feed_forward_size=24),
        frames=FRAMES,
        embedding_size=6,
    )
    bc_z = BCZConfig(
        resnet=ResNetConfig((1,), filters=8, max_pool=False, film=True),
        image_size=(16, 16),
        head_hidden=8,
        embedding_size=6,
    )
    return {
        "rt1": ("rt1", rt1),
        "autoregressive": (
            "rt1",
            dataclasses.replace(rt1, decoding="autoregressive", image_tokenizer=tokenizer),
        ),
        "continuous": (
            "rt1",
            dataclasses.replace(rt1, decoding="continuous", outputs=13, readout="mean"),
        ),
        "gato": ("gato", gato),
        "bc_z": ("bc_z", bc_z),
    }


def make_policy(name: str, **changes: Any) -> Policy:
    """A policy with random weights under which both instruction and past matter."""
    architecture, config = configs()[name]
    config = dataclasses.replace(config, **changes)
    model = build(architecture, config.to_json())
    images = np.zeros((1, config.frames, 16, 16, 3), np.uint8)
    actions = {f.name: np.zeros((1, config.frames, f.size), np.float32) for f in TABLETOP.fields}
    given = given_actions(model, actions, TABLETOP)
    variables = jax.jit(model.init)(
        jax.random.key(0), images, np.zeros((1, 6), np.float32), **given
    )
    rng = np.random.default_rng(0)
    noise = lambda x: x + 0.2 * rng.normal(size=x.shape).astype(np.float32)
    variables = {**variables, "params": jax.tree.map(noise, variables["params"])}
    description = small.policy_description(architecture, config)
    return Policy(model, variables, description)


def inputs(batch: int, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """An episode: images [steps, b, h, w, 3], embeddings [b, d], starts bool [steps, b]."""
    rng = np.random.default_rng(batch)
    starts = np.zeros((STEPS, batch), bool)
    starts[0] = True
    for step, robots in RESETS[batch].items():
        starts[step, list(robots)] = True
    return {
        "images": rng.integers(0, 255, (STEPS, batch, *size, 3), np.uint8),
        "embeddings": rng.normal(size=(batch, 512)).astype(np.float32),
        "starts": starts,
    }


def rollout(policy: Policy, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the policy itself does: {field: [steps, b, size]}, logits, and those of a window."""
    images, embeddings, starts = given["images"], given["embeddings"], given["starts"]
    state, results = policy.initial_state(images.shape[1]), []
    for image, start in zip(images, starts, strict=True):
        state = policy.reset(state, start)
        state, action, logits = policy.step_with_logits(state, image, embeddings)
        results.append({**action, "logits": logits})
    found = {name: np.stack([np.asarray(r[name]) for r in results]) for name in results[0]}
    window = images[: policy.config.frames].swapaxes(0, 1)
    found["window"] = np.asarray(policy.logits(window, embeddings))
    return found


def run_apart(
    kind: str, policies: dict[str, Policy], folder: pathlib.Path, size: tuple[int, int]
) -> dict[tuple[str, int], dict[str, np.ndarray]]:
    """Rolls all exported policies, folder/NAME/KIND, out in one new process without this package.

    Gives {(name, batch): what :func:`rollout` gives}.
    """
    cases = [case for case in CASES if case[0] in policies]
    for batch in RESETS:
        np.savez(folder / f"inputs-{batch}.npz", **inputs(batch, size))
    jobs = [
        {
            "directory": str(folder / name / kind),
            "inputs": str(folder / f"inputs-{batch}.npz"),
            "results": str(folder / f"{kind}-{name}-{batch}.npz"),
            "frames": policies[name].config.frames,
        }
        for name, batch in cases
    ]
    (folder / "jobs.json").write_text(json.dumps(jobs))
    script = pathlib.Path(__file__).with_name("run_exported.py")
    subprocess.run(
        [sys.executable, "-I", str(script), kind, str(folder / "jobs.json")], cwd="/", check=True
    )
    return {
        (name, batch): dict(np.load(folder / f"{kind}-{name}-{batch}.npz")) for name, batch in cases
    }


def assert_equal_rollouts(found: dict[str, Any], expected: dict[str, Any], atol: float) -> None:
    """The same tokens, and numbers that differ by no more than ``atol``."""
    # ONNX has the step alone, TF-Agents' policies give no logits.
    assert set(expected) - set(found) <= {"window", "logits"}
    for name, array in found.items():
        assert array.shape == expected[name].shape
        assert array.dtype == expected[name].dtype
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=atol, err_msg=name)
    if "logits" in found and found["logits"].ndim == 4:
        np.testing.assert_array_equal(found["logits"].argmax(-1), expected["logits"].argmax(-1))
