"""W&B workspace of a sweep: a section per kind of metric, with charts of each metric against loss and iteration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rankward import results
from rankward.config import ConfigError
from rankward.config.extras import require
from rankward.loggers.wandb_environment import project
from rankward.results.load import load

FIRST = ("entry", "norm", "rank", "singular_value", "error", "determinant", "balance")  # sections in this order
AXES = ("loss", "iteration")  # x axes of the charts, logarithmic
LOG = ("loss", "norm", "singular_value", "error", "balance")  # sections with a logarithmic y axis
UNMEASURED = (*AXES, "time", "run")


def sections(metrics: list[str]) -> dict[str, list[tuple[str, str, list[str]]]]:
    """Charts of a workspace by section: title, x axis and columns, a metric together with its bound.

    Example:
        >>> sections(["loss", "norm/nuclear", "bound/norm/nuclear", "rank/effective"])["norm"]
        [('norm/nuclear by loss', 'loss', ['norm/nuclear', 'bound/norm/nuclear']),
         ('norm/nuclear by iteration', 'iteration', ['norm/nuclear', 'bound/norm/nuclear'])]
    """
    measured = [name for name in metrics if not name.startswith("bound/") and name not in UNMEASURED]
    kinds = dict.fromkeys(name.partition("/")[0] for name in measured)
    order = [kind for kind in FIRST if kind in kinds] + [kind for kind in kinds if kind not in FIRST]
    shown = {"loss": [("loss by iteration", "iteration", ["loss"])]}
    for kind in order:
        shown[kind] = [
            (f"{name} by {axis}", axis, [name, *(bound for bound in (f"bound/{name}",) if bound in metrics)])
            for name in measured
            if name.partition("/")[0] == kind
            for axis in AXES
        ]
    return shown


def workspace(folder: Path, entity: str) -> Any:
    """A `wandb_workspaces` workspace of a sweep's project, with the charts for which its traces have columns.

    Args:
        folder: of the sweep.
        entity: user or team that the project belongs to.

    Raises:
        ConfigError: wandb-workspaces is not installed, or a sweep that did not log to W&B.
        ResultsError: no runs or traces.
    """
    require("workspace", "rankward workspace")
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as spaces

    made = [
        spaces.Section(
            name=kind,
            is_open=kind in ("loss", *FIRST[:3]),
            panels=[
                panels.LinePlot(title=title, x=axis, y=[*columns], log_x=True, log_y=kind in LOG)
                for title, axis, columns in charts
            ],
        )
        for kind, charts in sections(_columns(folder)).items()
    ]
    name = f"Rankward: {folder.resolve().name}"
    return spaces.Workspace(entity=entity, project=_project(folder), name=name, sections=made)


def save_workspace(folder: Path, entity: str) -> str:
    """Save a sweep's workspace on W&B's server; return its address.

    Raises:
        ConnectionError: W&B refuses or does not answer.
        ConfigError, ResultsError: as `workspace`.
    """
    import wandb.errors

    unsaved = workspace(folder, entity)
    try:
        return str(unsaved.save().url)
    except (wandb.errors.Error, OSError) as error:
        raise ConnectionError(f"workspace: W&B has not taken it: {error}") from error


def section_lines(folder: Path) -> list[str]:
    """One line for each section of a sweep's workspace, without a connection to W&B.

    Raises:
        ResultsError: no runs or traces.
    """
    lines = []
    for kind, shown in sections(_columns(folder)).items():
        metrics = dict.fromkeys(f"{y[0]} with its bound" if len(y) > 1 else y[0] for _, _, y in shown)
        axes = " and ".join(dict.fromkeys(axis for _, axis, _ in shown))
        lines.append(f"{kind} (by {axes}): {', '.join(metrics)}")
    return lines


def _columns(folder: Path) -> list[str]:
    return load(folder).traces().collect_schema().names()


def _project(folder: Path) -> str:
    (first, *_) = results.run_folders(folder) or [folder]
    wandb = results.read_config(first).get("logger", {}).get("wandb")
    if wandb is None:
        raise ConfigError("workspace", str(folder), "a sweep that logged to W&B (logger=wandb)")
    return project(wandb.get("project"))
