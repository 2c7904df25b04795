"""How much of a difference in training gradients is rounding: both sides against float64.

    python benchmarks/gradient_noise.py [--golden ../shared/golden] [--write FILE.npz] [--json=FILE]

Computes RT-1's gradient with batch statistics (the reference fixture's training step) in float32
and again in float64, each in a process of its own, and compares the norm of every tensor: this
project's against float64, the TensorFlow reference's against float64, and the two with each other.
`--write` keeps the float64 norms, which tests/golden/test_tf_training_parity.py compares with.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

# Tensors whose gradient softmax or batch statistics cancel: in float64 it is below this share of
# the whole gradient's norm.
ZERO = 1e-9


def gradient_norms(golden: pathlib.Path, precision: str) -> dict[str, float]:
    """The norm of every tensor's gradient in training mode, by the reference's name."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp

    if precision == "float64":
        jax.config.update("jax_enable_x64", True)
        # The model says jnp.float32 where bfloat16 would be too coarse; here that is too coarse.
        jnp.float32 = jnp.float64  # type: ignore[misc]
    from parity import recipe_variables

    from rt1_jax.checkpoints import tf_names
    from rt1_jax.models import efficientnet
    from rt1_jax.models.rt1 import RT1, rt1_config

    efficientnet.MBConv = nn.remat(efficientnet.MBConv, static_argnums=(2,))  # bounds the memory
    named = tf_names.named_tensors(rt1_config())
    variables = recipe_variables(golden / "tf" / "recipe.py", named)
    variables = jax.tree.map(lambda x: x.astype(precision), variables)
    data = np.load(golden / "tf" / "golden_tf_seed0.npz")
    labels = data["action_tokens"]
    model = RT1(_without_randomness(rt1_config(), precision))

    def loss(params: Any, images: Any, embeddings: Any) -> jax.Array:
        logits, _ = model.apply(
            {**variables, "params": params}, images, embeddings, train=True, mutable=["batch_stats"]
        )
        entropy = -jnp.take_along_axis(nn.log_softmax(logits), labels[..., None], axis=-1)
        return entropy.mean() / (labels.shape[0] * labels.shape[1] * 19)

    gradients = jax.jit(jax.grad(loss))(
        variables["params"], data["images"], data["embeddings"].astype(precision)
    )
    norms = {}
    for tensor in named:
        if tensor.path is not None and tensor.path[0] == "params":
            leaf: Any = gradients
            for key in tensor.path[1:]:
                leaf = leaf[key]
            assert leaf.dtype == precision
            norms[tensor.name] = float(np.linalg.norm(np.asarray(leaf, np.float64)))
    return norms


def _without_randomness(config: Any, precision: str) -> Any:
    tokenizer = config.image_tokenizer
    still = dataclasses.replace(tokenizer.efficientnet, stochastic_depth_rate=0.0)
    config = dataclasses.replace(
        config,
        image_tokenizer=dataclasses.replace(tokenizer, efficientnet=still),
        transformer=dataclasses.replace(config.transformer, dropout_rate=0.0),
    )
    object.__setattr__(config, "dtype", precision)  # float64 is no setting for users
    return config


def in_a_process(golden: pathlib.Path, precision: str) -> dict[str, float]:
    """`gradient_norms` in a fresh interpreter, since float64 is switched on for good."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "norms.json"
        command = [sys.executable, __file__, f"--golden={golden}", f"--json={file}"]
        subprocess.run([*command, f"--precision={precision}"], check=True)
        return json.loads(file.read_text())


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = pathlib.Path(__file__).resolve().parents[2] / "shared" / "golden"
    parser.add_argument("--golden", type=pathlib.Path, default=default)
    parser.add_argument("--write", help="keep the float64 norms in this .npz file")
    parser.add_argument("--json", type=pathlib.Path, help="write the numbers here")
    parser.add_argument("--precision", choices=("float32", "float64"), help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if not flags.golden.is_dir():
        print(f"error: no reference fixtures at {flags.golden}: give --golden", file=sys.stderr)
        return 1
    if flags.precision:
        flags.json.write_text(json.dumps(gradient_norms(flags.golden, flags.precision)))
        return 0
    exact = in_a_process(flags.golden, "float64")
    own = in_a_process(flags.golden, "float32")
    golden = np.load(flags.golden / "tf" / "golden_tf_seed0_train.npz")
    pairs = zip(map(str, golden["names"]), golden["train/grad_norms"], strict=True)
    reference = {name: float(norm) for name, norm in pairs if name in exact}
    if flags.write:
        values = np.array([exact[name] for name in reference])
        np.savez_compressed(flags.write, names=list(reference), norms=values)
    total = np.sqrt(sum(norm**2 for norm in exact.values()))
    rows = {
        name: (
            abs(own[name] - exact[name]) / exact[name],
            abs(reference[name] - exact[name]) / exact[name],
            abs(own[name] - reference[name]) / reference[name],
        )
        for name in reference
        if exact[name] > ZERO * total
    }
    zero = [name for name in reference if name not in rows]
    largest = max(max(own[name], reference[name]) for name in zero) / total
    print(f"{len(rows)} tensors; {len(zero)} more are zero in float64, in float32 at most", end=" ")
    print(f"{largest:.1e} of the whole gradient's norm\n")
    print("| norms of gradients | float32 here | float32 reference | one from the other |")
    print("| --- | --- | --- | --- |")
    table = np.array(list(rows.values()))
    for what, line in (("largest", table.max(0)), ("median", np.median(table, 0))):
        print(f"| {what} relative difference | " + " | ".join(f"{x:.2g}" for x in line) + " |")
    for name in sorted(rows, key=lambda name: -rows[name][2])[:10]:
        print(f"| `{name}` | " + " | ".join(f"{x:.2g}" for x in rows[name]) + " |")
    if flags.json:
        flags.json.write_text(json.dumps({"total": total, "rows": rows, "zero": zero}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
