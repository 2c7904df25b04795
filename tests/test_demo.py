import json
import pathlib
import subprocess
import types

import pytest

from rt1_jax import demo


@pytest.fixture
def commands(monkeypatch, repository_root):
    """Runs the demo without its stages: what it would have called, and which stage fails."""
    monkeypatch.chdir(repository_root)
    calls, failing = [], set()

    def run(command, check):
        calls.append(command)
        words = " ".join(command)
        code = int(any(word in words for word in failing))
        output = [w.removeprefix("--output=") for w in command if w.startswith("--output=")]
        if "eval.py" in words and not code:
            path = pathlib.Path(output[0])
            path.mkdir(parents=True)
            summary = {
                name: {"seen": {"all": {"success_rate": rate}}} for name, rate in rates.items()
            }
            (path / "results.json").write_text(json.dumps({"closed_loop": {"summary": summary}}))
        return types.SimpleNamespace(returncode=code)

    rates = {"policy": 0.9, "wrong_instruction": 0.1}
    monkeypatch.setattr(subprocess, "run", run)
    return types.SimpleNamespace(calls=calls, failing=failing, rates=rates)


def test_the_stages_in_order(commands, tmp_path, capsys):
    assert demo.main([f"--output={tmp_path}/demo", "--steps=7"]) == 0
    data, train, evaluation = (" ".join(c) for c in commands.calls)
    assert "rt1_jax.data.generate" in data
    assert "train.py" in train
    assert "--config.optimizer.steps=7" in train
    assert f"--config.data.directory={tmp_path}/demo/data" in train
    assert f"eval.py --checkpoint={tmp_path}/demo/run" in evaluation
    assert "report.html" in capsys.readouterr().out


@pytest.mark.parametrize(("stage", "calls"), [("generate", 1), ("train.py", 2), ("eval.py", 3)])
def test_a_stage_that_fails_ends_it(commands, tmp_path, stage, calls):
    commands.failing.add(stage)
    assert demo.main([f"--output={tmp_path}/demo"]) == 1
    assert len(commands.calls) == calls


def test_a_policy_that_did_not_learn_is_a_failure(commands, tmp_path, capsys):
    commands.rates["policy"] = 0.1
    assert demo.main([f"--output={tmp_path}/demo"]) == 1
    assert "training failed" in capsys.readouterr().out


def test_a_policy_that_does_not_listen_is_a_failure(commands, tmp_path, capsys):
    commands.rates["wrong_instruction"] = 0.8
    assert demo.main([f"--output={tmp_path}/demo"]) == 1
    assert "the instruction is not used" in capsys.readouterr().out


def test_outside_of_the_repository(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert demo.main([]) == 1
    assert "top of the repository" in capsys.readouterr().err
