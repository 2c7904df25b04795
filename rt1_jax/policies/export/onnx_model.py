"""The artefact for ONNX runtimes: one control step with its weights, for a batch of any size.

jax2onnx translates the traced step. What it leaves unfit for onnxruntime is put right here (see
``_finish``), and the model is checked before it is written.
"""

from __future__ import annotations

import json
import logging
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np

from rt1_jax.models import depthwise
from rt1_jax.policies.export.functions import ExportError, PolicyFunctions
from rt1_jax.policies.export.manifest import manifest

OPSET = 23


def import_converter() -> Any:
    """jax2onnx; ExportError where it is not installed."""
    try:
        import jax2onnx
    except ImportError as error:
        raise ExportError(
            f"the format onnx needs jax2onnx ({error}): pip install 'rt1_jax[onnx]'"
        ) from error
    return jax2onnx


def export_onnx(functions: PolicyFunctions, directory: pathlib.Path) -> None:
    """Writes ``step.onnx`` and ``config.json`` into a directory that is there and empty.

    Inputs are ``images``, ``embeddings`` and ``state_<name>`` for each array of the state; outputs
    are the action's fields, ``logits`` and ``next_<name>``.

    Raises:
      ExportError: jax2onnx is missing, or knows no translation of something in the model.
    """
    converter = import_converter()
    import onnx

    # One line for every shape that it writes without a type, hundreds of them.
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    _, state, images, embeddings = functions.step_arguments("b")
    names = list(state)
    weights = {name: jnp.asarray(x) for name, x in functions.weights.items()}  # become constants

    def step(images: Any, embeddings: Any, *leaves: Any) -> tuple[Any, ...]:
        after, action, logits = functions.step(
            weights, dict(zip(names, leaves, strict=True)), images, embeddings
        )
        fields = [action[field.name] for field in functions.description.action_spec.fields]
        return (*fields, logits, *[after[name] for name in names])

    # ONNX has depthwise convolution, and runtimes are made for it.
    with depthwise.automatic_lowering("grouped"):
        try:
            model = converter.to_onnx(
                step,
                inputs=[images, embeddings, *state.values()],
                model_name="rt1_step",
                opset=OPSET,
                input_names=["images", "embeddings", *[f"state_{name}" for name in names]],
                output_names=[
                    *functions.description.action_spec.field_names,
                    "logits",
                    *[f"next_{name}" for name in names],
                ],
            )
        except Exception as error:  # of any kind: it stops at the first thing that it cannot do
            raise ExportError(f"jax2onnx cannot translate this policy: {error}") from error
    _finish(model)
    content = manifest(functions, "onnx", ("jax", "jax2onnx", "onnx", "flax", "numpy"))
    content["opset"] = OPSET
    onnx.helper.set_model_props(model, {"rt1_jax": json.dumps(content)})
    onnx.checker.check_model(model)
    onnx.save(model, str(directory / "step.onnx"))
    (directory / "config.json").write_text(json.dumps(content, indent=1))


def _finish(model: Any) -> None:
    """Makes the model one that onnxruntime loads."""
    # Shapes noted for what is in between are wrong where something is broadcast over the batch;
    # every runtime infers them anyway.
    del model.graph.value_info[:]
    _replace_one_hot(model)


def _replace_one_hot(model: Any) -> None:
    """Writes OneHot of booleans, which onnxruntime lacks, as a comparison with a range."""
    from onnx import TensorProto, helper, numpy_helper

    constants = {x.name: numpy_helper.to_array(x) for x in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        values = constants.get(node.input[2]) if node.op_type == "OneHot" else None
        if values is None or values.dtype != bool:
            nodes.append(node)
            continue
        depth, name = int(constants[node.input[1]].item()), node.output[0]
        if any(x.name == "axis" and x.i != -1 for x in node.attribute):
            raise ExportError(f"{node.name} is not over the last axis")
        model.graph.initializer.extend(
            [
                numpy_helper.from_array(np.asarray([-1]), f"{name}_last"),
                numpy_helper.from_array(np.arange(depth), f"{name}_range"),
            ]
        )
        nodes += [
            helper.make_node("Cast", [node.input[0]], [f"{name}_index"], to=TensorProto.INT64),
            helper.make_node("Unsqueeze", [f"{name}_index", f"{name}_last"], [f"{name}_column"]),
            helper.make_node("Equal", [f"{name}_column", f"{name}_range"], [name]),
        ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
