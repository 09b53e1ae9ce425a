"""Loggers of a run, through Lightning's: opened with the config, fed rows of the trace, closed with the status."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pytorch_lightning.loggers import Logger

from rankward.config import RunConfig, config_hash, setting
from rankward.results import WANDB, ResultsError
from rankward.surroundings import hidden
from rankward.terminal import say
from rankward.training import wandb_environment

if TYPE_CHECKING:
    import polars as pl

SAVED = 10_000  # rows after which loggers are asked to save
AGENT = ("WANDB_SWEEP_ID", "WANDB_RUN_ID")  # in the environment: of one run, as a W&B agent starts it


@dataclasses.dataclass(frozen=True)
class LogTarget:
    """Where a run's loggers write.

    Args:
        folder: the run's own.
        shared: where its W&B run lies: the sweep's folder, or the run's.
        group: the W&B group of a sweep.
        name: the run's name on charts.
        config: the resolved config.
        settings: what tells it from other runs of its sweep.
    """

    folder: Path
    shared: Path
    group: str | None
    name: str
    config: dict[str, Any]
    settings: str = ""

    @functools.cached_property
    def digest(self) -> str:
        """The config's hash."""
        return config_hash(self.config)


class RunLog:
    """One run's loggers. Use it in a `with` or close it in a `finally`: a run of W&B's must not stay open."""

    def __init__(self, run: RunConfig, target: LogTarget) -> None:
        self.loggers: list[Logger] = []
        self.unsaved = 0  # rows since the loggers were last asked to save theirs
        try:
            for name, node in run.logger.items():
                if name == "wandb" and not wandb_environment.is_on(run.logger):
                    continue
                self.loggers.append(_open(name, node, run, target))
            for logger in self.loggers:
                if _wandb(logger) is None:
                    logger.log_hyperparams(target.config)
        except Exception:
            self.close({}, failed=True)
            raise

    def rows(self, trace: Mapping[str, np.ndarray]) -> None:
        """Log every row of a trace; its iteration is the step of loggers that have one.

        A bound is logged where it says something: whether it has a column does not depend on other runs.
        """
        names = [name for name in trace if name != "run"]
        count = len(trace["iteration"]) if trace else 0
        for first in range(0, count, SAVED):  # numbers of Python's take many times the room of an array's
            self._rows(names, [trace[name][first : first + SAVED].tolist() for name in names])

    def _rows(self, names: Sequence[str], columns: Sequence[list[Any]]) -> None:
        for values in zip(*columns, strict=True):
            named = zip(names, values, strict=True)
            row = {name: value for name, value in named if value == value or not name.startswith("bound/")}
            for logger in self.loggers:
                run = _wandb(logger)
                if run is not None:
                    run.log(row)
                else:
                    logger.log_metrics({key: row[key] for key in row if key != "iteration"}, step=row["iteration"])
        self.unsaved += len(columns[0])
        if self.unsaved >= SAVED:  # those that keep rows in memory write them
            for logger in self.loggers:
                if _wandb(logger) is None:
                    logger.save()
            self.unsaved = 0

    def close(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """Finish every logger; W&B gets the summary and a non-zero exit code where the run failed.

        Raises:
            OSError: one that cannot be finished. The others are.
        """
        with contextlib.ExitStack() as stack:
            for logger in self.loggers:
                stack.callback(_close, logger, summary, failed)


def _close(logger: Logger, summary: Mapping[str, Any], failed: bool) -> None:
    run = _wandb(logger)
    if run is not None:
        run.summary.update({**summary.get("metrics", {}), **{k: v for k, v in summary.items() if k != "metrics"}})
        _finish(run, failed=failed)
    else:
        logger.finalize("failed" if failed else "success")


def _open(name: str, node: Any, run: RunConfig, target: LogTarget) -> Logger:
    if name == "wandb":
        return _open_wandb(node, run, target)
    if name == "tensorboard":
        from pytorch_lightning.loggers import TensorBoardLogger

        below = re.sub(r"[^\w.,=+ -]", "_", target.settings)[:200]  # TensorBoard names a run by its folders
        return TensorBoardLogger(save_dir=target.folder, name="tensorboard", version=below)
    if name == "csv":
        from pytorch_lightning.loggers import CSVLogger

        return CSVLogger(save_dir=target.folder, name="csv", version="", flush_logs_every_n_steps=10**6)
    from rankward.config import build

    built: Logger = build(f"logger.{name}", node, save_dir=target.folder)
    return built


def _open_wandb(node: Any, run: RunConfig, target: LogTarget) -> Logger:
    from pytorch_lightning.loggers import WandbLogger

    in_sweep = target.group is not None
    experiment = _wandb_run(
        node,
        target.shared,
        identity=f"{target.folder.resolve()} {target.digest}",
        alone=not in_sweep,
        group=wandb_environment.group(node, target.group),
        name=wandb_environment.name(target.name, in_sweep),
        tags=[*wandb_environment.tags(node), *_tags(run)],
        job_type=wandb_environment.job_type(),
        config=target.config,
    )
    experiment.define_metric("iteration")
    experiment.define_metric("*", step_metric="iteration")
    return WandbLogger(experiment=experiment)


def log_sweep(
    node: Any,
    sweep: Path,
    command: str,
    tables: Mapping[str, pl.DataFrame],
    figures: Sequence[Path],
    charts: Mapping[str, Any],
) -> None:
    """A run of W&B's for a whole sweep, in its group: tables, pictures, and charts of metrics with their bounds.

    Args:
        node: the config's `logger.wandb`.
        sweep: its folder.
        command: that repeats it, for the run's config.
        tables: by name.
        figures: PNG files; others are passed over.
        charts: `sweeps.charts.Chart`s by metric.
    """
    import wandb

    group = wandb_environment.group(node, sweep.name)
    config = {"sweep": str(sweep), "command": command}
    options: dict[str, Any] = {
        "group": group,
        "name": f"{sweep.name}: summary",
        "job_type": "summary",
        "config": config,
    }
    summary = _wandb_run(
        node, sweep, f"{sweep.resolve()} summary", tags=[*wandb_environment.tags(node), "summary"], **options
    )
    failed = True
    try:
        logged: dict[str, Any] = {
            f"figure/{path.stem}": wandb.Image(str(path)) for path in figures if path.suffix == ".png"
        }
        for name, table in tables.items():
            rows = [list(row) for row in table.rows()]
            logged[f"table/{name}"] = wandb.Table(columns=list(table.columns), data=rows, allow_mixed_types=True)
        for name, chart in charts.items():
            xs, ys = zip(*chart.lines.values(), strict=True)
            logged[f"chart/{name}"] = wandb.plot.line_series(xs, ys, list(chart.lines), chart.title, "-log10(loss)")
        summary.log(logged)
        failed = False
    finally:
        _finish(summary, failed=failed)


def _wandb_run(node: Any, shared: Path, identity: str, alone: bool = False, **options: Any) -> Any:
    """An open run of W&B's under `shared`, the same for the same identity: what an earlier attempt left is replaced.

    Args:
        alone: whether it is a single run. It has the id of `WANDB_RUN_ID` where that is set; the runs of a sweep and
            its summary, which would all have the same one, have ids of their own.
    """
    import wandb

    logging.getLogger("wandb").setLevel(logging.ERROR)
    folder = wandb_environment.folder(shared).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    _keep_from_home(folder / WANDB)
    name = hashlib.sha256(identity.encode()).hexdigest()[:12]
    for stale in folder.glob(f"{WANDB}/offline-run-*-{name}"):
        shutil.rmtree(stale)  # an interrupted attempt's: what it logged is logged again, whole
    if not alone:
        _say_ids_are_own()
    with hidden(*(() if alone else AGENT)):
        return wandb.init(
            project=wandb_environment.project(node),
            id=wandb_environment.run_id(not alone) or name,
            dir=folder,  # W&B's process may be another one's that stands in another folder (WANDB_SERVICE)
            mode=wandb_environment.mode(node),
            reinit="create_new",
            settings=wandb.Settings(**wandb_environment.settings()),
            **options,
        )


@functools.cache
def _say_ids_are_own() -> None:
    """A line, once, where a W&B agent's one run, or one id, meets a sweep of many."""
    if found := [name for name in AGENT if name in os.environ]:
        say(f"rankward: {', '.join(found)}: for a single run; the runs of a sweep have ids of their own", error=True)


def _keep_from_home(folder: Path) -> None:
    """Have W&B keep its own files in the folder where it cannot write below the user's home.

    They stay: `wandb sync` takes tables of an offline run from there.
    """
    from wandb.env import get_cache_dir, get_data_dir

    for name, place in (("WANDB_DATA_DIR", get_data_dir), ("WANDB_CACHE_DIR", get_cache_dir)):
        if name not in os.environ and not _is_writable(Path(place())):
            os.environ[name] = str(folder)


def _is_writable(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        return os.access(folder, os.W_OK)
    return False


def _finish(run: Any, *, failed: bool) -> None:
    """Close a run of W&B's. Where its process could not write the run's file it goes on without a word, so look."""
    file = Path(run.settings.sync_file)
    run.finish(exit_code=1 if failed else 0)
    if run.settings._offline and not file.is_file():
        raise ResultsError(f"{file}: W&B has not written its run (its own log: {file.parent / 'logs'})")


def _tags(run: RunConfig) -> list[str]:
    names = {group: setting(getattr(run, group), "name") for group in ("factorization", "init", "observations")}
    tags = [f"depth={setting(run.depth, 'layers')}", *(f"{group}={name}" for group, name in names.items())]
    return [tag[:64] for tag in tags]  # W&B takes no longer ones


def _wandb(logger: Logger) -> Any:
    """The W&B run behind a logger, or None: asked by name, so that wandb is not imported for others."""
    return getattr(logger, "_experiment", None) if type(logger).__name__ == "WandbLogger" else None
