"""A sweep as a few ensembles leaves what its jobs would leave one by one, whatever befalls it."""

import signal
import subprocess
import sys
import time

import polars as pl
import pytest

from helpers import in_process
from helpers.commands import TENSOR, leavings, rankward
from rankward import results


@pytest.mark.slow
def test_the_same_bytes_as_job_by_job(tmp_path):
    """Matrices of two depths and tensors of several counts, one of them linear: four ensembles."""
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mixed.yaml").write_text(
        "# @package _global_\nhydra:\n  sweeper:\n    grids:\n"
        "      - {factorization: matrix, depth: [2, 3], init.scale: 0.1, lr.eta: [0.05, 0.1, 1000.0]}\n"
        "      - {factorization: [tensor, linear], observations: tensor_order3, observations.dims: ['[4,3,4]'],\n"
        "         observations.count: [5, 30], metrics: tensor, lr: adaptive, init.scale: 0.01}\n"
    )
    sweep = ["-m", "--config-dir=conf", "experiment=mixed", "logger=none", "max_iterations=2000"]
    for launcher in ("batched", "basic"):
        done = in_process.rankward(*sweep, f"hydra/launcher={launcher}", f"hydra.sweep.dir={launcher}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    batched, basic = leavings(tmp_path / "batched"), leavings(tmp_path / "basic")
    assert batched.keys() == basic.keys() and len(results.run_folders(tmp_path / "basic")) == 10
    for name in basic:
        assert batched[name] == basic[name], name
    status = pl.read_parquet(tmp_path / "batched" / "runs.parquet")["status"]
    assert status.to_list() == [*["converged", "converged", "diverged"] * 2, *["converged"] * 4]


LONG = ["-m", *TENSOR, "observations.count=8,20,30", "seed=range(0,4)", "stop_loss=0", "max_iterations=600_000"]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_sweep_goes_on_to_the_same_bytes(tmp_path, how):
    whole = [*LONG, "checkpoint.seconds=0.2", "hydra.sweep.dir=whole"]
    assert rankward(*whole, cwd=tmp_path).returncode == 0
    parts = [*LONG, "checkpoint.seconds=0.2", "hydra.sweep.dir=parts"]
    with subprocess.Popen(
        [sys.executable, "-m", "rankward", *parts],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        stdout=subprocess.PIPE,
    ) as process:
        while not list(tmp_path.glob("parts/*/checkpoint.ckpt")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        process.send_signal(how)
        said = process.communicate()[1]
    if how == signal.SIGINT:
        assert process.returncode == 130 and "goes on" in said
        assert {results.read_summary(folder)["status"] for folder in results.run_folders(tmp_path / "parts")} >= {
            "interrupted"
        }
    again = rankward(*parts, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert leavings(tmp_path / "whole") == leavings(tmp_path / "parts")
    assert not list(tmp_path.glob("*/*/checkpoint.ckpt"))


@pytest.mark.slow
def test_some_runs_of_a_checkpoint_go_on_without_the_others(tmp_path):
    """As after a kill while results were written: a few runs stand complete, the checkpoint holds all."""
    whole = [*LONG, "checkpoint.seconds=0.2", "hydra.sweep.dir=whole"]
    with subprocess.Popen([sys.executable, "-m", "rankward", *whole], cwd=tmp_path) as process:
        while not list(tmp_path.glob("whole/*/checkpoint.ckpt")):
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
    (checkpoint,) = tmp_path.glob("whole/*/checkpoint.ckpt")
    kept = checkpoint.read_bytes()
    assert rankward(*whole, cwd=tmp_path).returncode == 0
    before = leavings(tmp_path / "whole")
    checkpoint.write_bytes(kept)
    for job in ("1", "6", "11"):
        (tmp_path / "whole" / job / "summary.json").unlink()
    again = rankward(*whole, cwd=tmp_path)
    assert again.returncode == 0 and again.stdout.count("kept") == 9, again.stderr
    assert leavings(tmp_path / "whole") == before


@pytest.mark.slow
def test_memory_cuts_an_ensemble_and_changes_nothing(tmp_path):
    sweep = ["-m", *TENSOR, "observations.count=20", "seed=range(0,5)"]
    assert in_process.rankward(*sweep, "hydra.sweep.dir=one", cwd=tmp_path).returncode == 0
    assert (
        in_process.rankward(*sweep, "hydra.sweep.dir=cut", "hydra.launcher.memory=0.002", cwd=tmp_path).returncode == 0
    )
    assert leavings(tmp_path / "one") == leavings(tmp_path / "cut")
    refused = in_process.rankward(*sweep, "hydra.launcher.memory=-1", cwd=tmp_path)
    assert refused.returncode == 2 and "hydra.launcher.memory: -1.0" in refused.stderr.splitlines()[-1]


def test_a_folder_that_cannot_be_made_fails_its_run_alone(tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "multirun.yaml").touch()
    (tmp_path / "sweep" / "1").write_text("in the way")
    quick = ["logger=none", "depth=2", "max_iterations=100"]
    done = in_process.rankward("-m", *quick, "seed=0,1,2", "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert done.returncode == 1 and "job 1 (" in done.stderr and len(done.stderr.splitlines()) == 1
    assert results.is_complete(tmp_path / "sweep" / "0") and results.is_complete(tmp_path / "sweep" / "2")


@pytest.mark.slow
def test_it_launches_other_programs_as_well(tmp_path):
    (tmp_path / "app.py").write_text(
        "import hydra\n\n@hydra.main(version_base='1.3', config_path=None)\ndef app(cfg):\n"
        "    open('out.txt', 'a').write(f'{cfg.x}\\n')\n\napp()\n"
    )
    command = [sys.executable, "app.py", "-m", "hydra/launcher=batched", "+x=1,2", "hydra.sweep.dir=s"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.txt").read_text() == "1\n2\n"
