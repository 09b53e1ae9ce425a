"""No setting without effect: each is heeded, or refused in a line that says why, before anything is written."""

import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from helpers.in_process import assert_refused, command_line
from rankward.config import CONFIG_FOLDER
from rankward.sweeps.command import command_of

SEEN = "row,column,value\n0,1,1\n1,0,1\n1,1,0.5\n"
RUN = ["logger=none", "max_iterations=50"]
LOG_RETURN = "hydra.experimental.callbacks.LogJobReturnCallback"
OBSERVED = '''
import os

import numpy as np

from rankward.observations import EntryMask


def make():
    """Observations that can be made where the environment says a value."""
    mask = np.array([[False, True], [True, True]])
    return EntryMask(mask, float(os.environ["MY_VALUE"]) * np.ones((2, 2)))
'''


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


SINGLE = [
    ("hydra/launcher=submitit_local", "hydra/launcher: 'submitit_local' is not allowed; expected a sweep: rankward -m"),
    ("hydra/launcher=basic", "hydra/launcher: 'basic' is not allowed; expected a sweep"),
    ("hydra.launcher.memory=2", "hydra.launcher.memory: 2.0 is not allowed; expected a sweep"),
    ("hydra/sweeper=refine", "hydra/sweeper: 'refine' is not allowed; expected a sweep"),
    ("hydra.sweeper.max_batch_size=3", "hydra.sweeper.max_batch_size: 3 is not allowed"),
    ("lr.eta,init.scale=[1e-3,1],[2e-3,2]", "hydra.sweeper.zip"),
    ("experiment=figure5 figures=[]", "hydra.sweeper.grids"),
    ("hydra.sweep.dir=x", "hydra.sweep.dir: 'x' is not allowed; expected a sweep: rankward -m ...; of a run it is hydra.run.dir"),
    ("results=table", "results: 'table' is not allowed; expected a sweep"),
    ("hydra.job.chdir=true", "hydra.job.chdir: True is not allowed; expected false: relative paths"),
    ("seed=${hydra:job.num}", "seed: '${hydra:job.num}' is not allowed; expected a value"),
]  # fmt: skip


def cases(given):
    """Two of three wait for the slow tests."""
    marks = [[pytest.mark.slow] if number % 3 else [] for number in range(len(given))]
    return [
        pytest.param(first, words, id=first, marks=mark) for (first, *words), mark in zip(given, marks, strict=True)
    ]


@pytest.mark.parametrize(("arguments", "words"), cases(SINGLE))
def test_a_single_run_refuses_what_only_a_sweep_reads(tmp_path, arguments, words):
    assert_refused(command_line(*RUN, *arguments.split(), cwd=tmp_path), *words)


SWEEPS = [
    ("experiment=figure1,figure5", "jobs 0, 1: experiment: ", "one after the other", "hydra.sweeper"),
    ("experiment=null,figure1", "job 1 (", "experiment=figure1): experiment: ", "one after the other"),
    ("experiment=[figure1,figure5]", "experiment: ['figure1', 'figure5'] is not allowed; expected only one that defines a sweep"),
    ("figures=[figure1],[figure5]", "jobs 0, 1: figures: ", "a sweep has one figures for all of its jobs"),
    ("results=table,folders", "results: "),
    ("seed=0,1 hydra.run.dir=x", "hydra.run.dir: 'x' is not allowed; expected hydra.sweep.dir for a sweep"),
    ("seed=0,1 hydra.job.chdir=true", "hydra.job.chdir: True is not allowed"),
    ("seed=0,1 hydra/sweeper=basic figures=[figure1]", "figures: ['figure1'] is not allowed; expected hydra/sweeper=grid"),
    (f"seed=0,1 +hydra.callbacks.log._target_={LOG_RETURN}", f"hydra.callbacks.log: '{LOG_RETURN}' is not allowed; expected hydra/launcher=basic for on_job_end"),
    ("--cfg all seed=0,1", "option: '--multirun --cfg' is not allowed; expected one of them"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "words"), cases(SWEEPS))
def test_a_sweep_refuses_what_its_jobs_cannot_have(tmp_path, arguments, words):
    assert_refused(command_line("-m", "logger=none", *arguments.split(), cwd=tmp_path), *words)


@pytest.mark.slow
def test_settings_of_custom_sweeps_are_accepted(tmp_path):
    """Plain experiments may be swept over, and a callback that no job calls is heeded."""
    write(tmp_path / "conf" / "experiment" / "fast.yaml", "# @package _global_\nlr: {eta: 0.1}\n")
    write(tmp_path / "conf" / "experiment" / "slow.yaml", "# @package _global_\nlr: {eta: 0.01}\n")
    write(tmp_path / "mine.py", "from hydra.experimental.callback import Callback\n\nclass Mine(Callback):\n"
          "    def on_multirun_start(self, config, **kwargs):\n        print('it begins')\n")  # fmt: skip
    sweep = ["-m", "--config-dir=conf", "logger=none", "--dry-run"]
    ended = command_line(*sweep, "experiment=fast,slow,null", "+hydra.callbacks.mine._target_=mine.Mine", cwd=tmp_path)
    assert ended.code == 0 and "it begins" in ended.out and "\n3 runs" in ended.out, ended
    whole = command_line("-m", "experiment=figure1", "logger=none", "--dry-run", cwd=tmp_path)
    assert whole.code == 0 and "\n12 runs" in whole.out, whole


def test_multirun_by_hydras_own_key_is_a_sweep(tmp_path):
    ended = command_line("hydra.mode=MULTIRUN", "seed=0,1", "logger=none", "--dry-run", cwd=tmp_path)
    assert ended.code == 0 and "\n2 runs" in ended.out, ended


def test_no_experiment_is_null(tmp_path):
    ended = command_line("experiment=null", *RUN, "hydra.run.dir=o", cwd=tmp_path)
    assert ended.code == 0 and "o/.hydra/config.yaml" in ended.files, ended


def test_hydras_own_values_are_known_when_jobs_are_checked(tmp_path):
    write(tmp_path / "seen.csv", SEEN)
    file = ["observations=file", "observations.path=${hydra:runtime.cwd}/seen.csv", "logger=none"]
    sweep = command_line("-m", *file, "seed=0,1,2", "--dry-run", cwd=tmp_path)
    assert sweep.code == 0 and "\n3 runs" in sweep.out, sweep
    run = command_line(*file, "hydra.run.dir=o", cwd=tmp_path)
    assert run.code == 0, run
    write(tmp_path / "conf" / "numbered.yaml", "defaults: [config, _self_]\nseed: ${hydra:job.num}\n")
    refused = command_line("--config-dir=conf", "--config-name=numbered", "-m", "depth=2,3", *RUN, cwd=tmp_path)
    assert_refused(refused, "seed: '${hydra:job.num}' is not allowed; expected a value: ", "on the command line")


def test_the_environment_of_jobs_is_set_before_they_are_checked(tmp_path):
    write(tmp_path / "observed_by_value.py", OBSERVED)
    own = "name: own\n_target_: observed_by_value.make\n"
    write(tmp_path / "conf" / "observations" / "own.yaml", own)
    mine = ["--config-dir=conf", "observations=own", "logger=none"]
    assert command_line(*mine, "hydra.run.dir=o", cwd=tmp_path).code != 0
    told = "+hydra.job.env_set.MY_VALUE=5"
    assert command_line(*mine, told, "hydra.run.dir=o", cwd=tmp_path).code == 0
    sweep = command_line("-m", *mine, told, "seed=0,1", "--dry-run", cwd=tmp_path)
    assert sweep.code == 0 and "\n2 runs" in sweep.out, sweep


def test_resume_keeps_the_config_that_was_named(tmp_path):
    write(tmp_path / "conf" / "mine.yaml", "defaults: [config, _self_]\nseed: 11\n")
    first = command_line("--config-dir", "conf", "--config-name", "mine", *RUN, "hydra.run.dir=o", cwd=tmp_path)
    assert first.code == 0, first
    flags = [f"--config-dir={tmp_path / 'conf'}", "--config-name=mine"]
    assert command_of(tmp_path / "o") == [*flags, *RUN, f"hydra.run.dir='{tmp_path / 'o'}'"]
    again = command_line("resume", "o", cwd=tmp_path)
    assert again.code == 0, again
    assert OmegaConf.load(tmp_path / "o" / ".hydra" / "config.yaml").seed == 11


def test_resume_keeps_a_folder_of_configs_in_the_place_of_rankwards(tmp_path):
    searched = f"hydra.searchpath=[file://{CONFIG_FOLDER}]"
    write(tmp_path / "mine" / "config.yaml", (CONFIG_FOLDER / "config.yaml").read_text().replace("seed: 0", "seed: 12"))
    first = command_line("--config-path", f"{tmp_path}/mine", *RUN, searched, "hydra.run.dir=o", cwd=tmp_path)
    assert first.code == 0, first
    assert command_of(tmp_path / "o")[0] == f"--config-path={tmp_path / 'mine'}"
    assert command_line("resume", "o", cwd=tmp_path).code == 0
    assert OmegaConf.load(tmp_path / "o" / ".hydra" / "config.yaml").seed == 12


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("num", "# @package _global_\ndefaults:\n  - override /depth: 2\n", "experiment/num: a number in the defaults list needs quotes"),
        ("bare", "lr: {eta: 1e-2}\n", "experiment/bare: its first line must be '# @package _global_'"),
    ],
)  # fmt: skip
def test_errors_in_an_experiment_name_its_file(tmp_path, name, text, words):
    write(tmp_path / "conf" / "experiment" / f"{name}.yaml", text)
    for more in ([], ["-m", "seed=0,1"]):
        ended = command_line("--config-dir=conf", f"experiment={name}", "logger=none", *more, cwd=tmp_path)
        assert ended.code == 2 and ended.err.startswith(f"rankward: {words}") and ended.err.count("\n") == 1, ended


def test_the_module_of_the_command_line_is_one_too(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "rankward.cli", "depth=0"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "depth: '0' is not a choice" in done.stderr
