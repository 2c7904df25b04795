"""``python -m rt1_jax.policies.export``: whole directories or none, and errors that name things."""

from __future__ import annotations

import exported
import pytest

from rt1_jax.checkpoints import native
from rt1_jax.policies.export import export
from rt1_jax.policies.export.__main__ import main
from rt1_jax.policies.export.functions import ExportError, PolicyFunctions
from rt1_jax.policies.export.standalone import ExportedPolicy


@pytest.fixture(scope="module")
def policy():
    return exported.make_policy("bc_z")


@pytest.fixture(scope="module")
def checkpoint(policy, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoints") / "bc_z"
    native.save_checkpoint(path, policy.description, policy.variables)
    return path


def test_the_command_writes_a_directory(checkpoint, tmp_path, capsys):
    output = tmp_path / "out"
    output.mkdir()  # empty: it may be there
    arguments = [f"--checkpoint={checkpoint}", f"--output={output}", "--format=stablehlo"]
    assert main([*arguments, "--image_size=24,32", "--platforms=cpu"]) == 0
    assert f"wrote {output} (stablehlo)" in capsys.readouterr().out
    loaded = ExportedPolicy(output / "stablehlo")
    assert loaded.config["inputs"]["images"]["shape"] == ["b", 24, 32, 3]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--format=tflite", "unknown format 'tflite': expected some of stablehlo,saved_model,onnx"),
        ("--format=", "no format"),
        ("--platforms=cpu,npu", "unknown platform 'npu': expected some of cpu,cuda,rocm,tpu"),
        ("--platforms=", "no platform"),
        ("--image_size=64", "--image_size=64: expected height and width"),
        ("--image_size=0,64", "image_size is (0, 64), expected height and width"),
        ("--checkpoint=/nothing/here", "/nothing/here"),
    ],
)
def test_a_bad_flag_is_named_and_nothing_is_written(checkpoint, tmp_path, capsys, flag, message):
    arguments = [f"--checkpoint={checkpoint}", f"--output={tmp_path / 'out'}", "--format=stablehlo"]
    assert main([*arguments, flag]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_what_is_there_is_not_overwritten(policy, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match="exists and is not empty"):
        export.export_policy(policy, tmp_path, formats=["stablehlo"])
    with pytest.raises(ExportError, match="exists and is not empty"):
        export.export_policy(policy, tmp_path / "notes.txt", formats=["stablehlo"])
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_interrupted_export_leaves_nothing(policy, tmp_path, monkeypatch):
    def interrupted(functions, directory, platforms):
        (directory / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "export_stablehlo", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export.export_policy(policy, tmp_path / "out", formats=["stablehlo"])
    assert not any(tmp_path.iterdir())


def test_a_state_that_no_program_can_start_is_refused(policy, monkeypatch):
    first = policy.initial_state(1)
    counting = first.replace(tokens=first.tokens.at[..., 0].set(1.0))
    monkeypatch.setattr(policy, "initial_state", lambda batch, keep=None: counting)
    with pytest.raises(ExportError, match="state 'tokens' does not start as the same number"):
        PolicyFunctions(policy)
    monkeypatch.setattr(
        policy, "initial_state", lambda batch, keep=None: first.replace(count=first.count[0])
    )
    with pytest.raises(ExportError, match="state 'count' is .* expected the batch axis first"):
        PolicyFunctions(policy)
