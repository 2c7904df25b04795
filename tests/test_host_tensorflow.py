"""TensorFlow reads and writes files; accelerators are JAX's."""

import ast
import pathlib

import pytest

import rt1_jax
from rt1_jax.host_tensorflow import import_tensorflow

PACKAGE = pathlib.Path(rt1_jax.__file__).parent


def test_no_gpu_is_visible_to_it(monkeypatch):
    tf = pytest.importorskip("tensorflow")
    asked = []
    monkeypatch.setattr(
        tf.config, "set_visible_devices", lambda devices, kind: asked.append((devices, kind))
    )
    assert import_tensorflow() is tf
    assert asked == [([], "GPU")]


def test_one_that_runs_already_is_left_as_it_is(monkeypatch):
    tf = pytest.importorskip("tensorflow")

    def refuse(devices, kind):
        raise RuntimeError("Visible devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "set_visible_devices", refuse)
    assert import_tensorflow() is tf


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_nothing_imports_it_another_way():
    """Its protocol buffers alone (`tensorflow.core`) touch no device."""
    others = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for name in imported(path)
        if name == "tensorflow" or name.startswith("tensorflow.python")
    }
    assert others == {"host_tensorflow.py"}
