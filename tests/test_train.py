import os
import subprocess
import sys


def train(root, *arguments):
    return subprocess.run(
        [sys.executable, "train.py", *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )


def test_a_missing_dataset_is_one_line(repository_root, tmp_path):
    done = train(
        repository_root,
        "--config=configs/tabletop.py",
        f"--workdir={tmp_path / 'run'}",
        f"--config.data.directory={tmp_path / 'nowhere'}",
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("train.py: no dataset directory")
    assert "nowhere" in last
    assert "Traceback" not in done.stderr
