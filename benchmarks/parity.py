"""Prints how far this project's numbers are from both reference implementations, stage by stage.

    python benchmarks/parity.py [--golden ../shared/golden] [--skip-rt1-x]

Needs the reference fixtures. The weights are made by their recipes.
"""

from __future__ import annotations

import argparse
import importlib.util
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from rt1_jax import preprocessing
from rt1_jax.checkpoints import rt1_x_names, tf_names
from rt1_jax.checkpoints.assemble import assemble
from rt1_jax.models.config import RT1Config, oxe_rt1_config, rt1_config, rt1_x_config
from rt1_jax.models.rt1 import RT1

Row = tuple[str, np.ndarray, np.ndarray]


def tensorflow_original(golden: pathlib.Path) -> Iterator[Row]:
    """(stage, this project's array, the reference's) of the TensorFlow original."""
    config = rt1_config()
    variables = recipe_variables(golden / "tf" / "recipe.py", tf_names.named_tensors(config))
    data = np.load(golden / "tf" / "golden_tf_seed0.npz")
    blocks = np.load(golden / "tf" / "golden_tf_seed0_blocks.npz")
    model, image = RT1(config), data["images"][0, 0]
    scaled = preprocessing.scale_uint8(image)
    yield "scaled pixels", scaled, data["frame00/preprocessed"]
    resized = preprocessing.resize_images(scaled, config.image_tokenizer.image_size)
    yield "resized pixels x 255", resized * 255, data["frame00/resized_x255"]
    yield "stem input", preprocessing.normalize_images(resized), data["frame00/stem_input"]

    def encode(variables: Any, images: Any, embeddings: Any) -> Any:
        return model.apply(
            variables, images, embeddings, method="encode_frames", capture_intermediates=True
        )

    encode = jax.jit(encode)
    per_history, first = [], None
    for images, embeddings in zip(data["images"], data["embeddings"], strict=True):
        tokens, state = encode(variables, images, embeddings)
        first = state["intermediates"]["image_tokenizer"] if first is None else first
        per_history.append(tokens)
    backbone = first["efficientnet"]
    yield "stem", nn.swish(output_of(backbone["stem_bn"])[0]), blocks["block00"]
    for i in range(len(config.image_tokenizer.efficientnet.blocks)):
        own = output_of(backbone[f"film_{i:02d}"])[0]
        yield f"block {i + 1} with FiLM", own, blocks[f"block{i + 1:02d}"]
    yield "EfficientNet features", output_of(backbone)[0], data["frame00/efficientnet_features"]
    yield "81 embeddings", output_of(first["film"])[0], data["frame00/after_conv1x1_film"]
    image_tokens = np.stack(per_history)
    yield "image tokens, 12 frames", image_tokens, data["image_tokens"]
    yield from logits(model, variables, image_tokens, data, "transformer_logits")


def rt1_x_code(golden: pathlib.Path, setting: str, config: RT1Config) -> Iterator[Row]:
    """(stage, this project's array, the reference's) of the RT-1-X Flax code."""
    tensors = rt1_x_names.named_tensors(config)
    variables = recipe_variables(golden / "oxe" / "recipe_flax.py", tensors)
    data = np.load(golden / "oxe" / f"golden_{setting}_seed0.npz")
    model = RT1(config)
    encode = jax.jit(lambda v, i, e: model.apply(v, i, e, method="encode_frames"))
    pairs = zip(data["image"], data["natural_language_embedding"], strict=True)
    image_tokens = np.stack([encode(variables, i, e) for i, e in pairs])
    yield "image tokens", image_tokens, data["image_tokens"]
    yield from logits(model, variables, image_tokens, data, "all_logits")


def logits(
    model: RT1, variables: Any, image_tokens: np.ndarray, data: Any, everywhere: str
) -> Iterator[Row]:
    """The rows after the image tokens; the last is of token indices."""
    if everywhere in data.files:
        decode_all = jax.jit(lambda v, t: model.apply(v, t, method="decode_all"))
        yield "logits at all positions", decode_all(variables, image_tokens), data[everywhere]
    decode = jax.jit(lambda v, t: model.apply(v, t, method="decode_tokens"))
    own = decode(variables, image_tokens)
    yield "action logits", own, data["action_logits"]
    yield "action tokens", np.argmax(own, axis=-1), data["predicted_tokens"]


def recipe_variables(recipe: pathlib.Path, tensors: Any) -> dict[str, Any]:
    """Weights of seed 0 by a fixture's recipe, in this project's variables."""
    spec = importlib.util.spec_from_file_location(recipe.stem, recipe)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{recipe}: cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    return assemble(tensors, lambda name: module.value(name, shapes[name], 0), str(recipe))


def output_of(module: Any) -> np.ndarray:
    """A module's captured output."""
    return np.asarray(module["__call__"][0])


def main() -> int:
    """Prints one table a reference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = pathlib.Path(__file__).resolve().parents[2] / "shared" / "golden"
    parser.add_argument("--golden", type=pathlib.Path, default=default)
    parser.add_argument("--skip-rt1-x", action="store_true", help="leave out the largest model")
    flags = parser.parse_args()
    if not flags.golden.is_dir():
        print(f"error: no reference fixtures at {flags.golden}: give --golden", file=sys.stderr)
        return 1
    tables = {
        "TensorFlow original": tensorflow_original(flags.golden),
        "RT-1-X code, RT-1 setting": rt1_x_code(flags.golden, "oxe_rt1", oxe_rt1_config()),
    }
    if not flags.skip_rt1_x:
        tables["RT-1-X"] = rt1_x_code(flags.golden, "oxe_rt1x", rt1_x_config())
    for title, rows in tables.items():
        print(f"\n{title}\n\n| stage | max difference | rms difference | largest value |")
        print("| --- | --- | --- | --- |")
        for stage, own, reference in rows:
            own, reference = np.asarray(own, np.float64), np.asarray(reference, np.float64)
            difference = np.abs(own - reference)
            rms = np.sqrt(np.mean(np.square(difference)))
            largest = np.abs(reference).max()
            print(f"| {stage} | {difference.max():.2g} | {rms:.2g} | {largest:.3g} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
