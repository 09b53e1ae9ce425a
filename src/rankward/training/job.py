"""One Hydra job: from its composed config to results in its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from rankward import __version__, results
from rankward.config import RunConfig
from rankward.config.explain import why
from rankward.config.overrides import unquoted
from rankward.config.recording import as_written, plain_values, recorded, resolved
from rankward.config.registry import NOT_HASHED
from rankward.loggers.run import log_from_files
from rankward.loggers.target import LogTarget
from rankward.terminal import say
from rankward.training.outputs import RunResult
from rankward.training.resume import checkpoint_of, completed_loss
from rankward.training.train import train


def run(cfg: DictConfig, config: RunConfig, folder: Path) -> float:
    """Train one run in `folder`, or keep the complete run that it holds; return the last loss.

    Raises:
        FolderLocked: another process trains there.
        LoggerError: a logger failed; the results are written.
        KeyboardInterrupt: training was interrupted; a checkpoint is saved.
    """
    target = log_target(record_config(cfg, folder), config, folder)
    loss = completed_loss(folder, target.digest)
    if loss is not None:
        log_from_files(config, target)
        return loss
    folder.mkdir(parents=True, exist_ok=True)
    results.note(folder, log_header(target))
    with results.claimed(folder):
        try:
            outcome = train([config], [target], checkpoint_of(config, folder))[0]
            if outcome.is_written:
                say(result_line(config, outcome))
            if outcome.error is not None:
                raise outcome.error
        except Exception as error:
            results.note_failure(folder, why(error), error)
            raise
    if outcome.status == "interrupted":
        raise KeyboardInterrupt(f"interrupted; rankward resume {folder} goes on")
    return float(outcome.summary["metrics"]["loss"])


def record_config(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Return the resolved config of a job, and complete the config file that Hydra has written.

    Values that the config left open are written to the file, so that a resumed run uses the same ones.

    Raises:
        ResultsError: the file cannot be written.
    """
    plain = resolved(cfg)
    complete = recorded(cfg, plain)
    if complete != plain_values(cfg):
        results.write_config(folder, complete)
    return plain


def log_target(plain: dict[str, Any], config: RunConfig, folder: Path) -> LogTarget:
    """Target of the results and loggers of the current Hydra job; W&B runs of a sweep share a folder.

    Args:
        plain: resolved config.
        config: the same, typed.
        folder: of the job.
    """
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    overrides = [] if hydra is None else as_written(hydra.overrides.task)
    if hydra is None or hydra.mode != RunMode.MULTIRUN:
        name = " ".join(filter(_changes_results, map(unquoted, overrides)))
        return LogTarget(folder, folder, None, name or _name(config), plain)
    sweep, job = Path(hydra.sweep.dir), hydra.job.num
    return sweep_target(config, folder, plain, overrides, sweep, job, results.read_varying_keys(sweep))


def sweep_target(
    config: RunConfig,
    folder: Path,
    plain: dict[str, Any],
    overrides: Sequence[str],
    sweep: Path,
    number: int,
    keys: Sequence[str],
) -> LogTarget:
    """Target of the results and loggers of a sweep's job.

    Args:
        config: of the run.
        folder: of the job.
        plain: resolved config.
        overrides: of the job.
        sweep: its folder.
        number: of the job.
        keys: keys that vary between the jobs; they are part of the run's name.
    """
    settings = _settings(keys, overrides, plain)
    return LogTarget(folder, sweep, sweep.name, f"{number}: {settings or _name(config)}", plain, settings)


def _settings(keys: Sequence[str], overrides: Sequence[str], plain: Mapping[str, Any]) -> str:
    """The job's overrides of these keys; for a key without an override, the value in its config.

    Example:
        >>> plain = {"seed": 0, "init": {"name": "gaussian", "scale": 0.1}}
        >>> _settings(["seed", "init", "init.scale"], ["lr.eta=0.2", "seed=0"], plain)
        'seed=0 init=gaussian init.scale=0.1'
    """
    given = {override.partition("=")[0]: unquoted(override) for override in overrides}
    settings = []
    for key in keys:
        value: Any = plain
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        value = value.get("name") if isinstance(value, Mapping) else value
        if key in given or value is not None:
            settings.append(given.get(key, f"{key}={value}"))
    return " ".join(settings)


def _changes_results(override: str) -> bool:
    """Whether an override may change the results: not that of a logger or a device."""
    return override.lstrip("+~").partition("=")[0].split(".")[0] not in NOT_HASHED


def _name(config: RunConfig) -> str:
    return f"{describe(config)}, seed {config.seed}"


def describe(config: RunConfig) -> str:
    """Depth or factorization of a run, and its init."""
    kind = config.factorization.name
    text = f"depth {config.depth.layers}" if kind == "matrix" else kind
    return text if kind == "linear" else f"{text}, {config.init.name}"


def result_line(config: RunConfig, outcome: RunResult) -> str:
    """The line that the terminal shows for a run that has ended."""
    return f"{outcome.folder}: {describe(config)}: {outcome.description}"


def log_header(target: LogTarget) -> str:
    """The first line of a run's log: version, name and config hash."""
    return f"rankward {__version__}: {target.name} (config_hash {target.digest})"
