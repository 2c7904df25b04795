"""What computing in bfloat16 changes in a trained policy's tokens and actions.

    python benchmarks/rounding.py [--checkpoint=tabletop-small] [--dataset=data/tabletop]

Recorded frames in windows of the policy's length, last steps compared: the most probable tokens,
how far apart they are where they differ, and how much the logits moved.
"""

from __future__ import annotations

import argparse
import pathlib

import numpy as np

from rt1_jax.data.store import StepStore
from rt1_jax.policies.load import load_policy


def main() -> None:
    """Prints the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="tabletop-small")
    parser.add_argument("--dataset", default="data/tabletop")
    parser.add_argument("--episodes", type=int, default=100)
    given = parser.parse_args()
    if not pathlib.Path(given.dataset).exists():
        print(
            f"skipped: there is no dataset at {given.dataset}; make one with python -m "
            f"rt1_jax.data.generate --skills=pick,move_near --output={given.dataset}"
        )
        return
    store = StepStore.open(given.dataset)
    exact, rounded = (load_policy(given.checkpoint, compute=c) for c in ("float32", "bfloat16"))
    frames = exact.config.frames
    logits: list[list[np.ndarray]] = [[], []]
    for episode in range(min(given.episodes, len(store))):
        images = store.read(episode).images
        starts = np.arange(len(images) - frames + 1)
        windows = images[starts[:, None] + np.arange(frames)]
        # Padded to a few lengths: each is compiled.
        padded = np.pad(windows, [(0, -len(windows) % 16), *[(0, 0)] * 4])
        told = np.repeat(store.embedding(episode)[None], len(padded), axis=0)
        for found, policy in zip(logits, (exact, rounded), strict=True):
            found.append(np.asarray(policy.logits(padded, told))[: len(windows), -1])
    first, second = (np.concatenate(found) for found in logits)  # [steps, action_tokens, bins]
    apart = np.abs(first.argmax(-1) - second.argmax(-1))
    print(f"{given.checkpoint}, {len(first)} steps of {given.dataset}:")
    print(f"  tokens equal      {(apart == 0).mean():.2%}")
    print(f"  within one bin    {(apart <= 1).mean():.2%}")
    print(f"  within four bins  {(apart <= 4).mean():.2%}")
    moved, largest = np.abs(first - second), np.abs(first).max()
    print(
        f"  logits moved by   {moved.mean():.3f}, at most {moved.max():.2f}, of up to {largest:.0f}"
    )
    print("  tokens equal, by token:")
    for name, share in zip(exact.action_spec.token_names, (apart == 0).mean(0), strict=True):
        print(f"    {name:36s} {share:.1%}")


if __name__ == "__main__":
    main()
