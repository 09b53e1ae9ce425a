"""Variables of launchers, schedulers, notebooks and W&B agents change nothing in a run."""

import os
import subprocess
import sys

import polars as pl
import pytest

from helpers.commands import rankward, wandb_records

QUICK = ("depth=2", "max_iterations=300")
RANKS = {"RANK": "1", "LOCAL_RANK": "1", "SLURM_PROCID": "1", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "5",
         "SLURM_JOB_NAME": "packed", "PL_TRAINER_FAST_DEV_RUN": "1", "PL_TRAINER_NUM_NODES": "2"}  # fmt: skip
NOTEBOOK = {"MPLBACKEND": "module://a_backend_that_is_not_here"}


@pytest.mark.slow
def test_a_process_of_any_rank_trains_and_logs_as_one_alone(tmp_path):
    """All its loggers write, and its W&B run has the id that an agent has chosen."""
    agent = {"WANDB_SWEEP_ID": "sweep1", "WANDB_RUN_ID": "abc123"}
    asked = (*QUICK, "logger=[csv,tensorboard,wandb]", "hydra.run.dir=o")
    done = rankward(*asked, cwd=tmp_path, env=os.environ | RANKS | NOTEBOOK | agent)
    assert done.returncode == 0, done.stderr
    trace = pl.read_parquet(tmp_path / "o" / "trace.parquet")
    assert trace["iteration"][-1] == 300
    assert pl.read_csv(tmp_path / "o" / "csv" / "metrics.csv")["loss"].to_list() == trace["loss"].to_list()
    assert list((tmp_path / "o" / "tensorboard").rglob("events.*"))
    (folder,) = (tmp_path / "o" / "wandb").glob("offline-run-*")
    assert next(record["run"]["run_id"] for record in wandb_records(folder) if "run" in record) == "abc123"


@pytest.mark.slow
def test_runs_of_a_sweep_inside_a_wandb_agent_have_different_ids(tmp_path):
    agent = {"WANDB_SWEEP_ID": "sweep1", "WANDB_RUN_ID": "abc123"}
    sweep = ("-m", "seed=0", *QUICK, "hydra.sweep.dir=s")
    done = rankward(*sweep, cwd=tmp_path, env=os.environ | agent)
    assert done.returncode == 0, done.stderr
    runs = [next(record["run"] for record in wandb_records(folder) if "run" in record)
            for folder in (tmp_path / "s" / "wandb").glob("offline-run-*")]  # fmt: skip
    assert len({run["run_id"] for run in runs} - {"abc123"}) == len(runs) == 2
    assert not [run for run in runs if run.get("sweep_id")]
    told = [line for line in done.stderr.splitlines() if "WANDB_RUN_ID" in line]
    assert len(told) == 1 and "ids of their own" in told[0]


def in_python(code, **variables):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | variables)


@pytest.mark.slow
def test_missing_backend_and_malformed_rank_do_not_stop_python():
    code = "import rankward.training; from rankward.figures import figure; figure('figure1')"
    done = in_python(code, MPLBACKEND="nonsense", RANK="gold", LOCAL_RANK="")
    assert done.returncode == 0, done.stderr


def test_installed_backend_is_used_from_python():
    code = "from rankward.environment import import_matplotlib; import_matplotlib(); import matplotlib; "
    done = in_python(code + "print(matplotlib.get_backend())", MPLBACKEND="svg")
    assert done.stdout.strip() == "svg", done.stderr
