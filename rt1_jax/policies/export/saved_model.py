"""The artefact for TensorFlow: a SavedModel that acts like the original RT-1's.

Needs neither JAX nor this package where it is used. Attributes of what ``tf.saved_model.load``
gives are those of a TF-Agents policy, as the released models have them:

    get_initial_state(batch_size)       int32 [] -> policy state {name: [b, ...]}
    action(time_step, policy_state)     -> PolicyStep(action {field: [b, size]}, state, info=())

``time_step`` is a namedtuple ``TimeStep(step_type, reward, discount, observation)``, the
observation a dict of ``image`` uint8 [b, h, w, 3] and ``natural_language_embedding`` float32
[b, d]. A robot whose ``step_type`` is 0 (FIRST) starts a new episode: its state is cleared first.
The signatures say the same with flat names: ``serving_default`` (also ``step``),
``initial_state``, and ``window`` for the logits of whole windows.
"""

from __future__ import annotations

import collections
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax

from rt1_jax.checkpoints.tf_bundle import import_tensorflow
from rt1_jax.models import depthwise
from rt1_jax.policies.export.functions import ExportError, PolicyFunctions
from rt1_jax.policies.export.manifest import manifest
from rt1_jax.policies.export.stablehlo import check_platforms

FIRST = 0
"""The ``step_type`` of an episode's first step."""

# TensorFlow tells namedtuples by their name and fields: whoever has TF-Agents passes its own.
TimeStep = collections.namedtuple("TimeStep", "step_type reward discount observation")
PolicyStep = collections.namedtuple("PolicyStep", "action state info")


def export_saved_model(
    functions: PolicyFunctions, directory: pathlib.Path, platforms: Sequence[str]
) -> None:
    """Writes the SavedModel into a directory that is there and empty.

    Args:
      functions: what to export.
      directory: see above.
      platforms: see ``export_stablehlo``.

    Raises:
      ExportError: an unknown platform, or TensorFlow or JAX's bridge to it is missing.
    """
    check_platforms(platforms)
    tf = import_tensorflow()
    module = tf.Module()
    module.weights = {
        name: tf.Variable(x, trainable=False, name=name) for name, x in functions.weights.items()
    }
    step, window = _programs(tf, functions, module, platforms)
    state = {
        name: tf.TensorSpec((None, *leaf.shape), leaf.dtype, name=f"state_{name}")
        for name, leaf in functions.state.items()
    }
    image = tf.TensorSpec((None, *functions.image_size, 3), tf.uint8, name="image")
    dimensions = functions.description.encoder.dimensions
    embedding = tf.TensorSpec((None, dimensions), tf.float32, name="natural_language_embedding")
    step_type = tf.TensorSpec((None,), tf.int32, name="step_type")

    @tf.function(autograph=False, input_signature=[step_type, image, embedding, state])
    def restart_and_step(step_type: Any, image: Any, embedding: Any, state: Any) -> Any:
        return step(_restarted(tf, functions, state, tf.equal(step_type, FIRST)), image, embedding)

    # Traced here and used twice: called as it is, each caller would trace it for itself.
    restart_and_step = restart_and_step.get_concrete_function()

    @tf.function(autograph=False, input_signature=[tf.TensorSpec((), tf.int32, "batch_size")])
    def get_initial_state(batch_size: Any) -> Any:
        return {
            name: tf.fill((batch_size, *leaf.shape), tf.constant(leaf.initial, leaf.dtype))
            for name, leaf in functions.state.items()
        }

    observation = {"image": image, "natural_language_embedding": embedding}
    number = lambda name: tf.TensorSpec((None,), tf.float32, name=name)
    time_step = TimeStep(step_type, number("reward"), number("discount"), observation)

    @tf.function(autograph=False, input_signature=[time_step, state])
    def action(time_step: Any, policy_state: Any) -> Any:
        seen = time_step.observation
        state, chosen, _ = restart_and_step(
            time_step.step_type, seen["image"], seen["natural_language_embedding"], policy_state
        )
        return PolicyStep(chosen, state, ())

    @tf.function(autograph=False)
    def step_signature(**inputs: Any) -> dict[str, Any]:
        given = {name: inputs[f"state_{name}"] for name in functions.state}
        state, chosen, logits = restart_and_step(
            inputs["step_type"], inputs["image"], inputs["natural_language_embedding"], given
        )
        return {**chosen, "logits": logits, **_prefixed(state)}

    @tf.function(autograph=False, input_signature=[tf.TensorSpec((), tf.int32, "batch_size")])
    def initial_state_signature(batch_size: Any) -> dict[str, Any]:
        return _prefixed(get_initial_state(batch_size))

    frames = (None, functions.frames, *functions.image_size, 3)

    @tf.function(
        autograph=False, input_signature=[tf.TensorSpec(frames, tf.uint8, "image"), embedding]
    )
    def window_signature(image: Any, natural_language_embedding: Any) -> dict[str, Any]:
        return {"logits": window(image, natural_language_embedding)}

    specs = {spec.name: spec for spec in (step_type, image, embedding, *state.values())}
    one_step = step_signature.get_concrete_function(**specs)
    module.action, module.get_initial_state = action, get_initial_state
    tf.saved_model.save(
        module,
        str(directory),
        signatures={
            "serving_default": one_step,
            "step": one_step,
            "initial_state": initial_state_signature,
            "window": window_signature,
        },
    )
    content = manifest(functions, "saved_model", ("jax", "tensorflow", "flax", "numpy"))
    content["platforms"] = list(platforms)
    content["signatures"] = {
        "serving_default": {
            "inputs": sorted(specs),
            "outputs": sorted(one_step.structured_outputs),
        },
        "step": "the same",
        "initial_state": {"inputs": ["batch_size"], "outputs": sorted(_prefixed(state))},
        "window": {"inputs": ["image", "natural_language_embedding"], "outputs": ["logits"]},
    }
    (directory / "config.json").write_text(json.dumps(content, indent=1))


def _programs(
    tf: Any, functions: PolicyFunctions, module: Any, platforms: Sequence[str]
) -> tuple[Any, Any]:
    """The step and the window as TensorFlow functions that read the module's weights."""
    try:
        from jax.experimental import jax2tf
    except ImportError as error:
        raise ExportError(
            f"SavedModels are made by jax.experimental.jax2tf, which jax {jax.__version__} has "
            f"not ({error}): use another jax, or another format"
        ) from error

    def convert(function: Any, arguments: tuple[Any, ...]) -> Any:
        polymorphic = [None, *[jax.tree.map(lambda _: "(b, ...)", a) for a in arguments[1:]]]
        return jax2tf.convert(
            # A new function each time: what was traced before holds one platform's lowerings.
            lambda *arguments: function(*arguments),
            polymorphic_shapes=polymorphic,
            native_serialization_platforms=tuple(platforms),
            with_gradient=False,
        )

    step = convert(functions.step, functions.step_arguments(1))
    window = convert(functions.logits, functions.logits_arguments(1))

    # Functions of their own, so that the graph holds each program once.
    @tf.function(autograph=False)
    def call_step(state: Any, image: Any, embedding: Any) -> Any:
        with depthwise.automatic_lowering("by_platform"):
            return step(dict(module.weights), state, image, embedding)

    @tf.function(autograph=False)
    def call_window(images: Any, embedding: Any) -> Any:
        with depthwise.automatic_lowering("by_platform"):
            return window(dict(module.weights), images, embedding)

    return call_step, call_window


def _restarted(tf: Any, functions: PolicyFunctions, state: Any, first: Any) -> dict[str, Any]:
    """The state, with what it was at first where ``first``, bool [b]."""
    return {
        name: tf.where(
            tf.reshape(first, (-1, *(1,) * len(leaf.shape))),
            tf.constant(leaf.initial, leaf.dtype),
            state[name],
        )
        for name, leaf in functions.state.items()
    }


def _prefixed(state: dict[str, Any]) -> dict[str, Any]:
    return {f"state_{name}": value for name, value in state.items()}
