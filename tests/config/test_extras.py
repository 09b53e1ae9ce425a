"""A feature whose extra is not installed is refused in one line, before anything is written or trained."""

import sys
import tomllib
from pathlib import Path

import pytest

from helpers.in_process import assert_refused, command_line
from helpers.received import received
from rankward.config.extras import PACKAGES

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]

COMMANDS = [
    ("tensorboard", "tensorboard", ["logger=tensorboard"], "logger=tensorboard"),
    ("tensorboard", "tensorboard", ["-m", "seed=0,1", "logger=tensorboard"], "logger=tensorboard"),
    ("submitit", "cluster", ["-m", "seed=0,1", "hydra/launcher=slurm"], "hydra/launcher=slurm"),
    ("submitit", "cluster", ["-m", "seed=0,1", "hydra/launcher=submitit_local"], "hydra/launcher=submitit_local"),
    ("plotly", "report", ["report", "."], "rankward report"),
    ("jinja2", "report", ["report", "."], "rankward report"),
    ("jinja2", "report", ["paper", "--quick"], "rankward paper"),
    ("wandb_workspaces", "workspace", ["workspace", ".", "--entity", "somebody"], "rankward workspace"),
]


@pytest.mark.parametrize(("package", "extra", "command", "feature"), COMMANDS)
def test_missing_package_is_refused_with_the_extra_that_has_it(tmp_path, monkeypatch, package, extra, command, feature):
    sweep = received(tmp_path / "s")
    monkeypatch.setattr("rankward.loggers.run._checked", set())
    monkeypatch.setitem(sys.modules, package, None)
    refused = command_line(*command, cwd=sweep)
    assert_refused(refused, f"{feature} needs {package.replace('_', '-')} (", f"'rankward[{extra}]'")


def test_extras_of_the_project_have_the_packages():
    for extra, packages in PACKAGES.items():
        listed = [requirement.replace("-", "_") for requirement in PROJECT["optional-dependencies"][extra]]
        assert all(any(line.startswith(package) for line in listed) for package in packages)
        assert len(listed) == len(packages) + sum(line.startswith("numpy<") for line in listed)
        assert not any(package in line.replace("-", "_") for package in packages for line in PROJECT["dependencies"])
