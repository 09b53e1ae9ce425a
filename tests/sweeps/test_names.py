"""What runs of a sweep are called: by the keys that vary between them."""

import shutil

import pytest

from helpers.commands import wandb_records
from helpers.in_process import rankward

SHORT = ["max_iterations=50", "hydra.sweep.dir=s"]
MINE = """# @package _global_
hydra:
  sweeper:
    grids:
      - depth: [2, 3]
        lr.eta, init.scale: [[0.01, 0.1], [0.02, 0.2]]
      - init: [balanced]
"""
NAMES = {
    "0": "depth=2 lr.eta=0.01 init.scale=0.1 init=gaussian",
    "1": "depth=2 lr.eta=0.02 init.scale=0.2 init=gaussian",
    "2": "depth=3 lr.eta=0.01 init.scale=0.1 init=gaussian",
    "3": "depth=3 lr.eta=0.02 init.scale=0.2 init=gaussian",
    "4": "depth=3 lr.eta=0.003 init.scale=1e-05 init=balanced",  # the second grid leaves the defaults
}


def boards(sweep):
    """Names that TensorBoard shows, by the run's folder."""
    return {path.parent.parent.parent.name: path.parent.name for path in sweep.glob("*/tensorboard/*/*tfevents*")}


def displayed(folder):
    """Names that W&B shows."""
    found = [each["run"] for run in folder.glob("wandb/offline-run-*") for each in wandb_records(run) if "run" in each]
    return {run["display_name"] for run in found if run["job_type"] == "run"}


@pytest.mark.slow
def test_runs_of_an_experiment_are_named_by_what_varies(tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "union.yaml").write_text(MINE)
    sweep = ["--config-dir=mine", "-m", "experiment=union", "seed=7", "logger=[wandb,tensorboard]", *SHORT]
    done = rankward(*sweep, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert boards(tmp_path / "s") == NAMES
    assert displayed(tmp_path / "s") == {f"{job}: {name}" for job, name in NAMES.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["seed=0,1", "hydra/launcher=basic"], ["seed=0", "seed=1"]),
        (["seed=0,1", "hydra.sweeper.max_batch_size=1"], ["seed=0", "seed=1"]),
        (["lr.eta,seed=[0.1,3],[0.2,4]"], ["lr.eta=0.1 seed=3", "lr.eta=0.2 seed=4"]),
        (["hydra/sweeper=refine", "hydra.sweeper.refine.max_rounds=2", "hydra.sweeper.refine.tolerance=1e-9", "lr.eta=0.1",
          "init.scale=0.1"], ["lr.eta=0.1 init.scale=0.1", "lr.eta=0.05 init.scale=0.01"]),
    ],
)  # fmt: skip
def test_runs_of_other_launchers_and_sweepers_are_named_so_too_and_resumed_ones(tmp_path, arguments, names):
    done = rankward("-m", *arguments, "depth=2", "logger=tensorboard", *SHORT, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = {str(job): name for job, name in enumerate(names)}
    assert boards(tmp_path / "s") == expected
    shutil.rmtree(tmp_path / "s" / "1")
    assert rankward("resume", "s", cwd=tmp_path).returncode == 0
    assert boards(tmp_path / "s") == expected


@pytest.mark.slow
def test_name_of_a_single_run_has_its_overrides(tmp_path):
    one = ["depth=2", "lr.eta=0.02", "logger=wandb", "max_iterations=50"]
    assert rankward(*one, "hydra.run.dir=one", cwd=tmp_path).returncode == 0
    assert displayed(tmp_path / "one") == {"depth=2 lr.eta=0.02 max_iterations=50"}
