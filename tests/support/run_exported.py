"""Steps exported policies where this package cannot be imported.

    python -I run_exported.py KIND JOBS.json

A job names a directory, its inputs and where results go; see ``exported.run_apart``.
"""

import collections
import importlib.util
import json
import os
import pathlib
import sys

import numpy as np

FORBIDDEN = {
    "stablehlo": ("rt1_jax", "flax", "tensorflow", "orbax"),
    "saved_model": ("rt1_jax", "flax", "jax", "jaxlib", "orbax"),
    "onnx": ("rt1_jax", "flax", "jax", "jaxlib", "tensorflow", "orbax"),
}


def run_stablehlo(job, given):
    spec = importlib.util.spec_from_file_location("policy", f"{job['directory']}/policy.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    policy = module.ExportedPolicy()
    assert policy.config["format"] == "rt1_jax_export"
    state, results = policy.initial_state(given["starts"].shape[1]), []
    for image, start in zip(given["images"], given["starts"], strict=True):
        state = policy.reset(state, start)
        state, action, logits = policy.step_with_logits(state, image, given["embeddings"])
        results.append({**action, "logits": logits})
    window = given["images"][: job["frames"]].swapaxes(0, 1)
    logits = policy.logits(window, given["embeddings"])
    # A shorter window is the beginning of the whole one.
    shorter = policy.logits(window[:, :1], given["embeddings"])
    np.testing.assert_allclose(shorter, logits[:, :1], atol=1e-5)
    return results, logits


def run_saved_model(job, given):
    import tensorflow as tf

    loaded = tf.saved_model.load(job["directory"])
    batch = given["starts"].shape[1]
    # TensorFlow compiles a program for each way in: one robot takes the one, several the other.
    start, step = by_attributes(tf, loaded) if batch == 1 else by_signatures(tf, loaded)
    state, results = start(tf.constant(batch)), []
    embeddings = tf.constant(given["embeddings"])
    for image, fresh in zip(given["images"], given["starts"], strict=True):
        step_type = tf.constant(np.where(fresh, 0, 1).astype(np.int32))
        state, found = step(state, step_type, tf.constant(image), embeddings)
        results.append({name: value.numpy() for name, value in found.items()})
    if batch == 1:
        return results, None
    window = tf.constant(given["images"][: job["frames"]].swapaxes(0, 1))
    window = loaded.signatures["window"](image=window, natural_language_embedding=embeddings)
    return results, window["logits"].numpy()


def by_signatures(tf, loaded):
    serve = loaded.signatures["serving_default"]

    def step(state, step_type, image, embeddings):
        outputs = serve(
            image=image, natural_language_embedding=embeddings, step_type=step_type, **state
        )
        after = {name: outputs.pop(name) for name in state}
        return after, outputs

    return lambda batch: loaded.signatures["initial_state"](batch_size=batch), step


def by_attributes(tf, loaded):
    """As TF-Agents has it, whose namedtuples are known by their names and fields."""
    time_step = collections.namedtuple("TimeStep", "step_type reward discount observation")

    def step(state, step_type, image, embeddings):
        zeros = tf.zeros(len(image))
        observation = {"image": image, "natural_language_embedding": embeddings}
        outputs = loaded.action(time_step(step_type, zeros, zeros, observation), state)
        assert outputs.info == ()
        return outputs.state, outputs.action

    return loaded.get_initial_state, step


def run_onnx(job, given):
    import onnxruntime

    session = onnxruntime.InferenceSession(
        f"{job['directory']}/step.onnx", providers=["CPUExecutionProvider"]
    )
    config = json.loads(session.get_modelmeta().custom_metadata_map["rt1_jax"])
    outputs, results = [output.name for output in session.get_outputs()], []
    leaves = config["state"].items()
    batch = given["starts"].shape[1]
    state = {k: np.full((batch, *v["shape"][1:]), v["initial"], v["dtype"]) for k, v in leaves}
    for image, start in zip(given["images"], given["starts"], strict=True):
        for name, leaf in leaves:
            state[name][start] = leaf["initial"]
        named = {f"state_{name}": value for name, value in state.items()}
        found = session.run(None, {"images": image, "embeddings": given["embeddings"], **named})
        found = dict(zip(outputs, found, strict=True))
        state = {name: np.array(found.pop(f"next_{name}")) for name in state}
        results.append(found)
    return results, None


def main():
    kind, jobs = sys.argv[1], json.loads(pathlib.Path(sys.argv[2]).read_text())
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in FORBIDDEN[kind]:
        assert name not in sys.modules
        sys.modules[name] = None  # every import of it fails from here on
    try:
        import rt1_jax  # noqa: F401
    except ImportError:
        pass
    else:
        raise SystemExit("rt1_jax can be imported here")
    run = {"stablehlo": run_stablehlo, "saved_model": run_saved_model, "onnx": run_onnx}[kind]
    for job in jobs:
        with np.load(job["inputs"]) as archive:
            given = dict(archive)
        results, window = run(job, given)
        arrays = {name: np.stack([np.asarray(r[name]) for r in results]) for name in results[0]}
        if window is not None:
            arrays["window"] = np.asarray(window)
        np.savez(job["results"], **arrays)


if __name__ == "__main__":
    main()
