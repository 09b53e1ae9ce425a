"""Weights & Biases: how runs and sweeps are opened, fed and closed there."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning.loggers import Logger

from rankward.config import ConfigError, RunConfig, groups, takes
from rankward.environment import hidden
from rankward.loggers import wandb_environment
from rankward.loggers.target import LogTarget, first_line, logger_errors
from rankward.results import WANDB, ResultsError
from rankward.terminal import say

if TYPE_CHECKING:
    import polars as pl

MAX_TAG_LENGTH, MAX_NAME_LENGTH = 64, 128  # characters that W&B accepts


class WandbRunLogger(Logger):
    """A logger that feeds an open W&B run.

    Lightning's WandbLogger is not used: it sets neither the summary nor the exit code, and does not close the run.

    Args:
        run: of W&B; its config is logged when it is opened.
    """

    def __init__(self, run: Any) -> None:
        super().__init__()
        self.run = run

    @property
    def name(self) -> str:
        return str(self.run.name)

    @property
    def version(self) -> str:
        return str(self.run.id)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: `open_run` has passed the config."""

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log a row; its iteration is a column, and the x axis of all others."""
        self.run.log({"iteration": step, **metrics})

    def log_summary(self, summary: Mapping[str, Any]) -> None:
        """Set the run's summary: the last metrics, status, notes and the rest of `summary.json`."""
        self.run.summary.update({**summary.get("metrics", {}), **{k: v for k, v in summary.items() if k != "metrics"}})

    def finalize(self, status: str) -> None:
        """Close the run; any other status than `success` gives it a non-zero exit code.

        Raises:
            ResultsError: the file of an offline run was not written.
        """
        _finish(self.run, failed=status != "success")


def open_run(node: groups.WandbLogger, run: RunConfig, target: LogTarget) -> WandbRunLogger:
    """Open the W&B run of a run: in its sweep's group, or alone.

    Args:
        node: `logger.wandb` of the config.
        run: its config.
        target: its folder, name and resolved config.
    """
    in_sweep = target.group is not None
    opened = _init_run(
        node,
        target.shared,
        identity=f"{target.folder.resolve()} {target.digest}",
        trial=None if in_sweep else wandb_environment.trial(),
        single=not in_sweep,
        group=wandb_environment.group(node.group, target.group and target.group[:MAX_NAME_LENGTH]),
        name=wandb_environment.name(target.name, in_sweep)[:MAX_NAME_LENGTH],
        tags=[*wandb_environment.tags(node.tags), *_tags(run)],
        job_type=wandb_environment.job_type(),
        config=target.config,
    )
    opened.define_metric("iteration")
    opened.define_metric("*", step_metric="iteration")
    return WandbRunLogger(opened)


@logger_errors("wandb")
def log_sweep(
    node: Any,
    sweep: Path,
    command: str,
    tables: Mapping[str, pl.DataFrame],
    figures: Sequence[Path],
    charts: Mapping[str, Any],
    last: Mapping[str, Any],
) -> None:
    """Log a summary of a sweep as a W&B run of its group: tables, pictures, and charts of metrics with their bounds.

    If a W&B agent has started the sweep, the summary is the run that the agent waits for.

    Args:
        node: `logger.wandb` of the config.
        sweep: its folder.
        command: command line that repeats it, for the config of the W&B run.
        tables: by name.
        figures: PNG files; files of other types are not logged.
        charts: `rankward.loggers.charts.Chart` by metric.
        last: values of the W&B run's own summary, by name.

    Raises:
        LoggerError: any error of W&B.
    """
    import wandb

    node = groups.typed(groups.WandbLogger, "logger.wandb", node)
    group = wandb_environment.group(node.group, sweep.name[:MAX_NAME_LENGTH])
    config = {"sweep": str(sweep), "command": command}
    options: dict[str, Any] = {
        "group": group,
        "name": f"{sweep.name[: MAX_NAME_LENGTH - 9]}: summary",
        "job_type": "summary",
        "config": config,
    }
    summary = _init_run(
        node,
        sweep,
        f"{sweep.resolve()} summary",
        trial=wandb_environment.trial(),
        tags=[*wandb_environment.tags(node.tags), "summary"],
        **options,
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
        summary.summary.update(last)
        failed = False
    finally:
        _finish(summary, failed=failed)


def check_wandb(node: groups.WandbLogger) -> None:
    """Check the settings of a `logger.wandb` node, and the login if W&B is online; no W&B run is opened.

    Raises:
        ConfigError: settings that W&B refuses, no login, or a server that does not answer.
    """
    import wandb

    logging.getLogger("wandb").setLevel(logging.ERROR)
    tags = tuple(wandb_environment.tags(node.tags))
    try:
        wandb.Settings(
            project=wandb_environment.project(node.project),
            run_group=wandb_environment.group(node.group, None),
            run_tags=tags,
        )
    except Exception as error:  # W&B's own check of each
        raise ConfigError("logger.wandb", first_line(error), "settings that W&B takes") from error
    mode = wandb_environment.mode(node.offline)
    if mode in wandb_environment.ONLINE and (why := login_error()):
        allowed = f"or a login that W&B's server takes ({why})"
        if node.offline is None:
            raise ConfigError("WANDB_MODE", mode, f"offline, {allowed}")
        raise ConfigError("logger.wandb.offline", False, f"true, {allowed}")


@functools.cache
def login_error() -> str:
    """Why W&B's server refuses the user's login, asked once per process; empty if it accepts it."""
    import wandb

    try:
        with hidden(*wandb_environment.AGENT_VARIABLES):  # `_init_run` passes them to the agent's trial
            wandb.setup(wandb.Settings(silent=True))
            wandb.login(force=True, verify=True)  # raises without a key, too
    except Exception as error:
        return first_line(error)
    return ""


def _init_run(
    node: groups.WandbLogger,
    shared: Path,
    identity: str,
    trial: wandb_environment.Trial | None,
    single: bool = False,
    **options: Any,
) -> Any:
    """Open a W&B run under `shared`; a run that an interrupted attempt left for the same identity is replaced.

    Args:
        node: `logger.wandb` of the config.
        shared: folder of the run, or of its sweep.
        identity: distinguishes the run from all others; its hash is the W&B id.
        trial: the W&B agent's trial that this run is, if it is one.
        single: whether it is a single run, which `WANDB_RUN_ID` may name. Runs of a sweep would all get that id; theirs
            is always the hash.
        options: of `wandb.init`.
    """
    import wandb

    logging.getLogger("wandb").setLevel(logging.ERROR)
    folder = wandb_environment.folder(shared).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    _move_caches(folder / WANDB)
    run_id = hashlib.sha256(identity.encode()).hexdigest()[:12]
    for stale in folder.glob(f"{WANDB}/offline-run-*-{run_id}"):
        shutil.rmtree(stale)  # of an interrupted attempt: all its rows are logged again
    mode, settings = wandb_environment.mode(node.offline), wandb_environment.settings()
    given = wandb_environment.run_id() if single else None
    if trial is not None:
        given, settings["sweep_id"] = trial.run_id, trial.sweep_id
        options["config"] = {**options["config"], **trial.parameters}  # as the agent names them
        kind = "run" if single else "summary"
        say(f"rankward: this {kind} is run {given} of W&B's sweep {trial.sweep_id}, {mode}", error=True)
    with hidden(*wandb_environment.AGENT_VARIABLES):  # of all runs in this process, the trial alone has them
        return wandb.init(
            project=wandb_environment.project(node.project),
            entity=wandb_environment.variable("ENTITY"),
            notes=wandb_environment.variable("NOTES"),
            id=given or run_id,
            dir=folder,  # absolute: W&B's service process may have another working directory (WANDB_SERVICE)
            mode=mode,
            reinit="create_new",
            settings=wandb.Settings(**settings),
            **options,
        )


def _move_caches(folder: Path) -> None:
    """Have W&B keep its data and cache in this folder if it cannot write below the user's home.

    They are not removed: `wandb sync` reads tables of an offline run from them.
    """
    from wandb.env import get_cache_dir, get_data_dir

    for name, default in (("WANDB_DATA_DIR", get_data_dir), ("WANDB_CACHE_DIR", get_cache_dir)):
        if name not in os.environ and not _is_writable(Path(default())):
            os.environ[name] = str(folder)


def _is_writable(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        return os.access(folder, os.W_OK)
    return False


def _finish(run: Any, *, failed: bool) -> None:
    """Close a W&B run and check its file: W&B's process says nothing if it could not write it."""
    file, offline = Path(run.settings.sync_file), run.offline
    run.finish(exit_code=1 if failed else 0)
    if offline and not file.is_file():
        raise ResultsError(f"{file}: W&B has not written its run (its own log: {file.parent / 'logs'})")


def _tags(run: RunConfig) -> list[str]:
    names = {group: getattr(run, group).name for group in ("factorization", "optimizer", "init", "observations")}
    depth = [f"depth={run.depth.layers}"] if takes(run.factorization, "layers") else []
    names |= {} if run.loss.name == "squared" else {"loss": run.loss.name}
    tags = [*depth, *(f"{group}={name}" for group, name in names.items())]
    return [tag[:MAX_TAG_LENGTH] for tag in tags]
