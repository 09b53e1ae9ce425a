"""The sdist, and a wheel built of it, in an empty environment: works from any folder, configs, plugins and pages included."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_wheel_runs_outside_the_checkout(tmp_path):
    def call(*command, cwd=tmp_path):
        done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    call(sys.executable, "-m", "build", "--outdir", tmp_path, ROOT)  # the sdist of the checkout, the wheel of the sdist
    (wheel,), (sdist,) = tmp_path.glob("rankward-*.whl"), tmp_path.glob("rankward-*.tar.gz")
    with tarfile.open(sdist) as packed:
        held = {name.partition("/")[2] for name in packed.getnames()}
    assert {
        "Makefile",
        "constraints.txt",
        "conf/config.yaml",
        "tests/conftest.py",
        "docs/conf.py",
        "CITATION.cff",
    } <= held
    assert not [name for name in held if name.startswith(("docs/_build", "docs/api", ".venv", "outputs"))]
    call(sys.executable, "-m", "venv", tmp_path / "empty")
    python = tmp_path / "empty" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt"]
    call(*pip, "torch")
    call(*pip, f"{wheel}[report]")
    sweep = ["-m", "experiment=figure1", "lr.eta=0.05", "init.scale=1e-3", "stop_loss=1e-2", "hydra.sweep.dir=sweep"]
    printed = call(tmp_path / "empty" / "bin" / "rankward", *sweep)
    assert "figures/figure1.png" in printed and "wandb sync" in printed
    assert (tmp_path / "sweep" / "runs.parquet").is_file()
    assert len(list((tmp_path / "sweep" / "wandb").glob("offline-run-*"))) == 12 // 2 + 1  # and the summary
    rankward = tmp_path / "empty" / "bin" / "rankward"
    assert "report.html" in call(rankward, "report", "sweep") and (tmp_path / "sweep" / "report.html").is_file()
    assert "6 runs: 6 done" in call(rankward, "status", "sweep")
    assert "observations: blocks, changing, diagonal" in call(rankward, "--help")
