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
    agent = {"WANDB_SWEEP_ID": "sweep1", "WANDB_RUN_ID": "abc123", "WANDB_MODE": "offline"}
    asked = (*QUICK, "logger=[csv,tensorboard,wandb]", "hydra.run.dir=o")
    done = rankward(*asked, cwd=tmp_path, env=os.environ | RANKS | NOTEBOOK | agent)
    assert done.returncode == 0, done.stderr
    trace = pl.read_parquet(tmp_path / "o" / "trace.parquet")
    assert trace["iteration"][-1] == 300
    assert pl.read_csv(tmp_path / "o" / "csv" / "metrics.csv")["loss"].to_list() == trace["loss"].to_list()
    assert list((tmp_path / "o" / "tensorboard").rglob("events.*"))
    (folder,) = (tmp_path / "o" / "wandb").glob("offline-run-*")
    assert next(record["run"]["run_id"] for record in wandb_records(folder) if "run" in record) == "abc123"


def trials(tmp_path, monkeypatch, *commands):
    """Let W&B's own agent start commands with chosen parameters, at the same time; the W&B runs that they leave."""
    from wandb.wandb_agent import Agent

    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "rankward").write_text(f'#!/bin/sh\nexec {sys.executable} -m rankward "$@"\n')
    (tmp_path / "bin" / "rankward").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    for name, value in {"SWEEP_ID": "sweep1", "MODE": "offline", "PROJECT": "tuned", "DIR": str(tmp_path)}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    for name in ("RUN_ID", "SWEEP_PARAM_PATH"):  # the agent sets them; they are restored after the test
        monkeypatch.setenv(f"WANDB_{name}", "")
    agent = Agent(api=None, queue=None, sweep_id="sweep1")
    for number, (command, parameters) in enumerate(commands):
        agent._sweep_command = command
        given = {key: {"value": value} for key, value in parameters.items()}
        agent._command_run({"run_id": f"trial{number}", "program": "rankward", "args": given})
    assert [process.wait(240) for process in agent._run_processes.values()] == [0] * len(commands)
    read = [wandb_records(folder) for folder in (tmp_path / "wandb").glob("offline-run-*")]
    return {next(each["run"]["run_id"] for each in records if "run" in each): records for records in read}


def last_values(records):
    return {key: x for each in records if each["type"] == "summary" for key, x in each["summary"]["update"].items()}


@pytest.mark.slow
def test_no_trial_of_wandb_agents_is_lost(tmp_path, monkeypatch):
    """Two single runs at once, and a sweep over seeds whose summary the agent waits for."""
    single = ["rankward", "${args_no_hyphens}", "max_iterations=300"]
    sweep = ["rankward", "-m", "seed=0,1,2", *single[1:]]
    chosen = [{"depth": depth, "lr.eta": 0.01} for depth in (2, 3)]
    runs = trials(tmp_path, monkeypatch, *((single, each) for each in chosen), (sweep, chosen[0]))
    assert len(list((tmp_path / "outputs").glob("*/*/summary.json"))) == 2
    opened = {name: next(each["run"] for each in records if "run" in each) for name, records in runs.items()}
    assert {name for name, run in opened.items() if run.get("sweep_id") == "sweep1"} == {f"trial{i}" for i in range(3)}
    assert len(opened) == 3 + 3 and {run["project"] for run in opened.values()} == {"tuned"}
    assert opened["trial1"]["display_name"] == "depth=3 lr.eta=0.01 max_iterations=300"
    assert (opened["trial2"]["config"]["update"]["depth"], opened["trial2"]["job_type"]) == (2, "summary")
    seeds = [last_values(records)["loss"] for name, records in runs.items() if not name.startswith("trial")]
    last = last_values(runs["trial2"])
    assert (last["best/loss"], last["median/loss"], last["runs"]) == (min(seeds), sorted(seeds)[1], 3)


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
