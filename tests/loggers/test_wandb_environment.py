"""The environment of W&B's users wins over Rankward's defaults, and the config over both."""

import json

import pytest

from helpers.commands import wandb_records
from helpers.in_process import assert_refused, command_line
from helpers.runs import composed, trained
from rankward.loggers import wandb_environment
from rankward.loggers.target import LogTarget
from rankward.sweeps.status_command import show_status
from rankward.training.train import train

RUN = ["depth.layers=2", "max_iterations=50"]


def opened(tmp_path, *overrides: str):
    """The record of the W&B run of a single run."""
    run, plain = composed("logger=wandb", *RUN, *overrides)
    train([run], [LogTarget(tmp_path / "o", tmp_path / "o", None, "own name", plain)])
    (folder,) = tmp_path.rglob("offline-run-*")
    return folder, next(record["run"] for record in wandb_records(folder) if record["type"] == "run")


def test_environment_variables_set_the_wandb_run(tmp_path, monkeypatch):
    said = {"PROJECT": "theirs", "DIR": str(tmp_path / "there"), "RUN_ID": "one7", "NAME": "a name", "TAGS": "x,y"}
    said |= {"RUN_GROUP": "together", "JOB_TYPE": "trial", "ENTITY": "team", "NOTES": "why"}
    for name, value in said.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    folder, run = opened(tmp_path)
    assert folder.parent == tmp_path / "there" / "wandb" and folder.name.endswith("-one7")
    assert (run["run_id"], run["project"], run["display_name"]) == ("one7", "theirs", "a name")
    assert (run["run_group"], run["job_type"]) == ("together", "trial")
    assert (run["entity"], run["notes"]) == ("team", "why")
    assert {"x", "y", "depth=2", "optimizer=descent"} <= set(run["tags"])


def test_a_factorization_without_layers_has_no_tag_of_a_depth(tmp_path):
    _, run = opened(tmp_path, "factorization=linear")
    assert "factorization=linear" in run["tags"] and not any(tag.startswith("depth=") for tag in run["tags"])


def test_config_takes_precedence_over_the_environment(tmp_path, monkeypatch):
    for name, value in {"PROJECT": "theirs", "RUN_GROUP": "together", "TAGS": "x", "MODE": "disabled"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    own = ["project=mine", "group=ours", "tags=[z]", "offline=true"]
    _, run = opened(tmp_path, *(f"logger.wandb.{setting}" for setting in own))
    assert (run["project"], run["run_group"]) == ("mine", "ours") and "z" in run["tags"] and "x" not in run["tags"]


def test_default_wandb_settings(tmp_path, monkeypatch):
    for name in ("PROJECT", "RUN_GROUP", "TAGS", "MODE", "NAME", "RUN_ID", "DIR", "JOB_TYPE"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    folder, run = opened(tmp_path)
    assert folder.parent == tmp_path / "o" / "wandb"
    assert (run["project"], run["display_name"], run["job_type"]) == ("rankward", "own name", "run")


def test_switched_off_it_logs_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    trained(tmp_path, RUN, [*RUN, "seed=1"], logger="wandb")
    (tmp_path / "multirun.yaml").write_text("logger: {wandb: {project: p, offline: null}}\n")
    for number in (0, 1):
        (tmp_path / str(number) / ".hydra").mkdir()
        config = composed("logger=wandb", *RUN, f"seed={number}")[1]
        (tmp_path / str(number) / ".hydra" / "config.yaml").write_text(json.dumps(config))
        (tmp_path / str(number) / ".hydra" / "overrides.yaml").write_text(f"- seed={number}\n")
    assert show_status(tmp_path) == 0
    assert (tmp_path / "runs.parquet").is_file() and not list(tmp_path.rglob("wandb"))


AGENT = {"WANDB_SWEEP_ID": "sweep1", "WANDB_RUN_ID": "abc123"}


@pytest.mark.parametrize(
    ("said", "mode"),
    [
        ({}, "offline"),
        ({"WANDB_MODE": "online"}, "online"),
        ({"WANDB_MODE": "disabled"}, "disabled"),
        ({"WANDB_DISABLED": "true"}, "disabled"),
        ({"WANDB_DISABLED": "false"}, "offline"),
        (AGENT, "online"),
        ({"WANDB_SWEEP_ID": "sweep1"}, "offline"),
        (AGENT | {"WANDB_MODE": "offline"}, "offline"),
        (AGENT | {"WANDB_DISABLED": "1"}, "disabled"),
    ],
)
def test_modes(monkeypatch, said, mode):
    for name in ("MODE", "DISABLED", "SWEEP_ID", "RUN_ID"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert wandb_environment.mode(offline=None) == mode
    assert [wandb_environment.mode(offline) for offline in (True, False)] == ["offline", "online"]


def test_unknown_wandb_mode_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offlin")
    for more in ([], ["-m"]):
        ended = command_line(*more, *RUN, cwd=tmp_path)
        assert_refused(ended, "WANDB_MODE: 'offlin' is not allowed; expected one of online, offline", "'offline'?")


def test_environment_may_enable_what_wandb_collects(monkeypatch):
    assert wandb_environment.settings()["console"] == "off" and wandb_environment.settings()["x_disable_stats"]
    monkeypatch.setenv("WANDB_CONSOLE", "wrap")
    monkeypatch.setenv("WANDB__DISABLE_STATS", "false")
    assert not {"console", "x_disable_stats"} & set(wandb_environment.settings())


def test_names_of_a_sweeps_runs_differ(monkeypatch):
    monkeypatch.setenv("WANDB_NAME", "a name")
    assert wandb_environment.name("3: seed=3", in_sweep=True) == "a name 3: seed=3"


def test_wandb_run_id_is_refused_for_a_sweep(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "one7")
    sweep = ["-m", "seed=0,1", *RUN]
    assert_refused(command_line(*sweep, cwd=tmp_path), "WANDB_RUN_ID: 'one7' is not allowed", "an id of its own")
    assert command_line(*sweep, "logger=none", "--dry-run", cwd=tmp_path).code == 0


def test_single_run_of_a_wandb_agent_is_the_trial_that_it_waits_for(tmp_path, monkeypatch, capsys):
    (tmp_path / "config.yaml").write_text("wandb_version: 1\ndepth: {value: 2}\nlr.eta: {value: 0.5}\n")
    agent = AGENT | {"WANDB_SWEEP_PARAM_PATH": str(tmp_path / "config.yaml"), "WANDB_PROJECT": "of the sweep"}
    for name, value in (agent | {"WANDB_MODE": "offline"}).items():
        monkeypatch.setenv(name, value)
    _, run = opened(tmp_path, "lr.eta=0.5")
    assert (run["run_id"], run["sweep_id"], run["project"]) == ("abc123", "sweep1", "of the sweep")
    config = run["config"]["update"]
    assert (config["depth"], config["lr.eta"], config["lr"]["eta"]) == (2, 0.5, 0.5)
    assert "this run is run abc123 of W&B's sweep sweep1, offline" in capsys.readouterr().err


def test_what_a_wandb_agent_would_wait_for_in_vain_is_refused(tmp_path, monkeypatch):
    for name, value in (AGENT | {"WANDB_MODE": "offline"}).items():
        monkeypatch.setenv(name, value)
    assert_refused(
        command_line(*RUN, "logger=csv", cwd=tmp_path), "logger: 'csv'", "the agent of WANDB_SWEEP_ID=sweep1"
    )
    wrong = command_line(*RUN, "logger.wandb.project=mine", cwd=tmp_path)
    assert_refused(wrong, "logger.wandb.project: 'mine'", "in its project, rankward")
