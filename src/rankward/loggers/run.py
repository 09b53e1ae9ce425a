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
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pytorch_lightning.loggers import Logger

from rankward.config import ConfigError, RunConfig, config_hash, groups
from rankward.config.extras import require
from rankward.environment import hidden
from rankward.loggers import wandb_environment
from rankward.private_apis import wandb_run
from rankward.results import FAILURE, UNLOGGED, WANDB, ResultsError, failure, read_summary, read_trace, run_name
from rankward.terminal import say

if TYPE_CHECKING:
    import polars as pl

SAVED = 10_000  # rows after which loggers are asked to save
AGENT = ("WANDB_SWEEP_ID", "WANDB_RUN_ID")  # in the environment: of one run, as a W&B agent starts it
LONGEST_TAG, LONGEST_NAME = 64, 128  # characters that W&B takes
LOGGER = ("log_hyperparams", "log_metrics", "save", "finalize")  # what is asked of one


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

    @property
    def run(self) -> str:
        """What its sweep calls the run."""
        return run_name(self.shared, self.folder)

    @functools.cached_property
    def digest(self) -> str:
        """The config's hash."""
        return config_hash(self.config)


class LoggerError(ResultsError):
    """A logger that has failed; one line with its key and the reason. The run's results stand."""

    def __init__(self, name: str, error: BaseException) -> None:
        file = getattr(error, "filename", None)
        why = str(failure("write", Path(file), error)) if file and isinstance(error, OSError) else _first_line(error)
        super().__init__(f"logger.{name}: {why}")


def _first_line(error: BaseException) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return text if isinstance(error, ResultsError) else f"{type(error).__name__}: {text}"


class RunLog:
    """One run's loggers. Close it in a `finally`: a run of W&B's must not stay open.

    A logger that fails is not asked again, and stops nothing else: `error` says what has happened.

    Raises:
        LoggerError, ConfigError: one that cannot be opened.
    """

    def __init__(self, run: RunConfig, target: LogTarget) -> None:
        self.loggers: dict[str, Logger] = {}
        self.error: LoggerError | None = None  # the first
        self.unsaved = 0  # rows since the loggers were last asked to save theirs
        try:
            for name, node in _wanted(run):
                with _naming(name), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # Lightning's, that what an earlier attempt left is replaced
                    self.loggers[name] = _open(name, node, run, target)
                    if wandb_run(self.loggers[name]) is None:
                        self.loggers[name].log_hyperparams(target.config)
        except BaseException:
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
        def rows() -> Iterator[dict[str, Any]]:
            for values in zip(*columns, strict=True):
                named = zip(names, values, strict=True)
                yield {name: value for name, value in named if value == value or not name.startswith("bound/")}

        self._each(lambda logger: _log(logger, rows()))
        self.unsaved += len(columns[0])
        if self.unsaved >= SAVED:  # those that keep rows in memory write them
            self._each(_save)
            self.unsaved = 0

    def _each(self, act: Callable[..., None], *arguments: Any) -> None:
        """Have every logger do something; one that fails is closed, and left out from then on."""
        for name, logger in list(self.loggers.items()):
            try:
                with _naming(name):
                    act(logger, *arguments)
            except LoggerError as error:
                self.error = self.error or error
                del self.loggers[name]
                with contextlib.suppress(Exception, SystemExit):  # as far as it still can be
                    _close(logger, {"status": "failed"}, True)

    def close(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """Finish every logger; W&B gets the summary and a non-zero exit code where the run failed."""
        self._each(_close, summary, failed)
        self.loggers = {}


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Whatever a logger raises as a LoggerError with its name."""
    try:
        yield
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise LoggerError(name, error) from error


def _log(logger: Logger, rows: Iterable[Mapping[str, Any]]) -> None:
    run = wandb_run(logger)
    for row in rows:
        if run is not None:
            run.log(row)
        else:
            logger.log_metrics({key: row[key] for key in row if key != "iteration"}, step=row["iteration"])


def _save(logger: Logger) -> None:
    if wandb_run(logger) is None:
        logger.save()


def _close(logger: Logger, summary: Mapping[str, Any], failed: bool) -> None:
    run = wandb_run(logger)
    if run is not None:
        run.summary.update({**summary.get("metrics", {}), **{k: v for k, v in summary.items() if k != "metrics"}})
        _finish(run, failed=failed)
    else:
        logger.finalize("failed" if failed else "success")


def log_kept(run: RunConfig, target: LogTarget) -> None:
    """Log a complete run from its files, where its loggers have not closed: it was killed then, or one of them failed.

    Raises:
        LoggerError, ConfigError: a logger that fails again.
        ResultsError: files that cannot be read.
    """
    mark = target.folder / UNLOGGED
    if not (run.logger and mark.is_file()):
        return
    frame, summary = read_trace(target.folder), read_summary(target.folder)
    last_only = [name for name in frame.columns if frame[name][:-1].is_nan().all()] if len(frame) > 1 else []
    log = RunLog(run, target)
    try:
        log.rows({name: frame[name][:-1].to_numpy() for name in frame.columns if name not in last_only})
        log.rows({name: frame[name][-1:].to_numpy() for name in frame.columns})
    finally:
        log.close(summary, failed=summary["status"] == "diverged")
    if log.error:
        raise log.error
    mark.unlink()
    (target.folder / FAILURE).unlink(missing_ok=True)


def _wanted(run: RunConfig) -> Iterator[tuple[str, Any]]:
    """The run's loggers without W&B's where the environment has switched it off."""
    for name, node in run.logger.items():
        if name != "wandb" or wandb_environment.is_on(run.logger):
            yield name, node


def check_loggers(run: RunConfig) -> None:
    """Try what opening the run's loggers needs, once for each setting of them; no run of W&B's is made for that.

    Raises:
        ConfigError: settings that a logger refuses; W&B online without a login, or whose server does not answer.
        LoggerError: one that cannot start, as where a package is missing.
    """
    for name, node in _wanted(run):
        if (name, repr(node)) in _checked:
            continue
        with _naming(name), tempfile.TemporaryDirectory() as folder:
            if name == "wandb":
                _check_wandb(node)
            else:
                target = LogTarget(Path(folder), Path(folder), None, "", {})
                built = _open(name, node, run, target)
                if missing := [each for each in LOGGER if not callable(getattr(built, each, None))]:
                    raise ConfigError(
                        f"logger.{name}", type(built).__name__, f"a logger of Lightning's: no {missing[0]}"
                    )
        _checked.add((name, repr(node)))


_checked: set[tuple[str, str]] = set()


def _check_wandb(node: groups.WandbLogger) -> None:
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
        raise ConfigError("logger.wandb", _first_line(error), "settings that W&B takes") from error
    mode = wandb_environment.mode(node.offline)
    if mode in wandb_environment.ONLINE and (why := _refused_login()):
        allowed = f"or a login that W&B's server takes ({why})"
        if node.offline is None:
            raise ConfigError("WANDB_MODE", mode, f"offline, {allowed}")
        raise ConfigError("logger.wandb.offline", False, f"true, {allowed}")


@functools.cache
def _refused_login() -> str:
    """Why W&B's server does not take the user's login, asked once; empty where it does."""
    import wandb

    try:
        wandb.setup(wandb.Settings(silent=True))
        wandb.login(force=True, verify=True)  # it raises where there is no key as well
    except Exception as error:
        return _first_line(error)
    return ""


def _open(name: str, node: Any, run: RunConfig, target: LogTarget) -> Any:
    if name == "wandb":
        return _open_wandb(node, run, target)
    if name == "tensorboard":
        require("tensorboard", "logger=tensorboard")
        from pytorch_lightning.loggers import TensorBoardLogger

        below = re.sub(r"[^\w.,=+ -]", "_", target.settings)[:200]  # TensorBoard names a run by its folders
        return TensorBoardLogger(save_dir=target.folder, name="tensorboard", version=below)
    if name == "csv":
        from pytorch_lightning.loggers import CSVLogger

        return CSVLogger(save_dir=target.folder, name="csv", version="", flush_logs_every_n_steps=10**6)
    from rankward.config import build

    return build(f"logger.{name}", node, save_dir=target.folder)


def _open_wandb(node: groups.WandbLogger, run: RunConfig, target: LogTarget) -> Logger:
    from pytorch_lightning.loggers import WandbLogger

    in_sweep = target.group is not None
    experiment = _wandb_run(
        node,
        target.shared,
        identity=f"{target.folder.resolve()} {target.digest}",
        alone=not in_sweep,
        group=wandb_environment.group(node.group, target.group and target.group[:LONGEST_NAME]),
        name=wandb_environment.name(target.name, in_sweep)[:LONGEST_NAME],
        tags=[*wandb_environment.tags(node.tags), *_tags(run)],
        job_type=wandb_environment.job_type(),
        config=target.config,
    )
    experiment.define_metric("iteration")
    experiment.define_metric("*", step_metric="iteration")
    return WandbLogger(experiment=experiment)


@_naming("wandb")
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

    Raises:
        LoggerError: whatever W&B meets.
    """
    import wandb

    node = groups.typed(groups.WandbLogger, "logger.wandb", node)
    group = wandb_environment.group(node.group, sweep.name[:LONGEST_NAME])
    config = {"sweep": str(sweep), "command": command}
    options: dict[str, Any] = {
        "group": group,
        "name": f"{sweep.name[: LONGEST_NAME - 9]}: summary",
        "job_type": "summary",
        "config": config,
    }
    summary = _wandb_run(
        node, sweep, f"{sweep.resolve()} summary", tags=[*wandb_environment.tags(node.tags), "summary"], **options
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


def _wandb_run(node: groups.WandbLogger, shared: Path, identity: str, alone: bool = False, **options: Any) -> Any:
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
            project=wandb_environment.project(node.project),
            id=wandb_environment.run_id(not alone) or name,
            dir=folder,  # W&B's process may be another one's that stands in another folder (WANDB_SERVICE)
            mode=wandb_environment.mode(node.offline),
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
    file, offline = Path(run.settings.sync_file), run.offline
    run.finish(exit_code=1 if failed else 0)
    if offline and not file.is_file():
        raise ResultsError(f"{file}: W&B has not written its run (its own log: {file.parent / 'logs'})")


def _tags(run: RunConfig) -> list[str]:
    names = {group: getattr(run, group).name for group in ("factorization", "init", "observations")}
    tags = [f"depth={run.depth.layers}", *(f"{group}={name}" for group, name in names.items())]
    return [tag[:LONGEST_TAG] for tag in tags]
