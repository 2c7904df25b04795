"""The ``config.json`` of an artefact: all that is needed to feed it and to read its actions."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from rt1_jax.policies.export.functions import PolicyFunctions

FORMAT = "rt1_jax_export"
VERSION = 1


def manifest(functions: PolicyFunctions, kind: str, libraries: tuple[str, ...]) -> dict[str, Any]:
    """What all kinds of artefacts say of themselves, as plain JSON values.

    Args:
      functions: what is exported.
      kind: ``"stablehlo"``, ``"saved_model"`` or ``"onnx"``.
      libraries: packages whose versions matter.
    """
    description = functions.description
    policy = description.to_json()
    # Part of the program: embeddings are given as the encoder makes them.
    standardized = policy.pop("embedding_statistics") is not None
    height, width = functions.image_size
    dimensions = description.encoder.dimensions
    return {
        "format": FORMAT,
        "version": VERSION,
        "kind": kind,
        "inputs": {
            "images": {
                "shape": ["b", height, width, 3],
                "dtype": "uint8",
                "meaning": "the newest frame of each robot, RGB, 0..255",
            },
            "embeddings": {
                "shape": ["b", dimensions],
                "dtype": "float32",
                "meaning": (
                    f"the instruction, as the encoder {description.encoder.name!r} gives it"
                    + ("; it is standardised inside" if standardized else "")
                ),
            },
        },
        "state": {
            name: {"shape": ["b", *leaf.shape], "dtype": leaf.dtype, "initial": leaf.initial}
            for name, leaf in functions.state.items()
        },
        "actions": {
            field.name: {
                "shape": ["b", field.size],
                "dtype": "int32" if field.kind == "one_hot" else "float32",
                "low": list(field.low),
                "high": list(field.high),
                "unit": field.unit,
            }
            for field in description.action_spec.fields
        },
        "logits": {"shape": ["b", *functions.logits_shape], "dtype": "float32"},
        "frames": functions.frames,
        "calling_convention": (
            "step(state, images, embeddings) -> next state, actions, logits. Before an episode's "
            "first frame every element of a state array is its 'initial'; to start one robot of a "
            "batch anew, set its row to that. b is any number of robots, the same in all arrays."
        ),
        "policy": policy,
        "libraries": {name: importlib.metadata.version(name) for name in libraries},
    }


def tensors(functions: PolicyFunctions) -> dict[str, dict[str, Any]]:
    """{weight: {"shape", "dtype"}}."""
    return {
        name: {"shape": list(x.shape), "dtype": str(x.dtype)}
        for name, x in functions.weights.items()
    }
