"""A wheel in an empty environment works from any folder, configs and plugins included."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_wheel_runs_outside_the_checkout(tmp_path):
    def call(*command, cwd=tmp_path):
        done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    call(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("rankward-*.whl")
    call(sys.executable, "-m", "venv", tmp_path / "empty")
    python = tmp_path / "empty" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt"]
    call(*pip, "torch")
    call(*pip, wheel)
    sweep = ["-m", "experiment=figure1", "lr.eta=0.05", "init.scale=1e-3", "stop_loss=1e-2", "hydra.sweep.dir=sweep"]
    printed = call(tmp_path / "empty" / "bin" / "rankward", *sweep)
    assert "figures/figure1.png" in printed and "wandb sync" in printed
    assert (tmp_path / "sweep" / "runs.parquet").is_file()
    assert len(list((tmp_path / "sweep" / "wandb").glob("offline-run-*"))) == 12 // 2 + 1  # and the summary
