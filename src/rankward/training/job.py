"""One Hydra job: from its composed config to results in its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from rankward import __version__, results
from rankward.config import ConfigError, RunConfig
from rankward.config.explain import why
from rankward.config.overrides import unquoted
from rankward.config.recording import as_written, recorded, resolved
from rankward.config.registry import NOT_HASHED
from rankward.loggers.run import LogTarget, log_kept
from rankward.terminal import say
from rankward.training.checkpoints import newest
from rankward.training.train import RunResult, train

IN_NAMES = ("factorization", "depth", "init", "seed")  # keys that `_name` tells


def run(cfg: DictConfig, config: RunConfig, folder: Path) -> float:
    """Train one run in `folder`, or keep what stands complete there; its last loss.

    Raises:
        FolderLocked: another process trains there.
        LoggerError: a logger failed; the results stand.
        KeyboardInterrupt: training was interrupted; what was done is saved.
    """
    target = log_target(keep_config(cfg, folder), config, folder)
    done = kept(folder, target.digest)
    if done is not None:
        log_kept(config, target)
        return done
    folder.mkdir(parents=True, exist_ok=True)
    results.note(folder, begun(target))
    with results.claimed(folder):
        try:
            outcome = train([config], [target], _resume_from(config, folder))[0]
            if outcome.stands:
                say(line(config, outcome))
            if outcome.error is not None:
                raise outcome.error
        except Exception as error:
            results.note_failure(folder, why(error), error)
            raise
    if outcome.status == "interrupted":
        raise KeyboardInterrupt(f"interrupted; rankward resume {folder} goes on")
    return float(outcome.summary["metrics"]["loss"])


def keep_config(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """The resolved config of the job whose files Hydra has written; what these leave open stands there from now on.

    Raises:
        ResultsError: its config cannot be written.
    """
    plain = resolved(cfg)
    kept = recorded(cfg, plain)
    if kept != OmegaConf.to_container(cfg, enum_to_str=True):
        results.write_config(folder, kept)
    return plain


def log_target(plain: dict[str, Any], config: RunConfig, folder: Path) -> LogTarget:
    """Where the results and loggers of a job with this resolved config go; a sweep's W&B runs lie together."""
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    overrides = [] if hydra is None else as_written(hydra.overrides.task)
    if hydra is None or hydra.mode != RunMode.MULTIRUN:
        name = ", ".join([_name(config), *filter(_tells_more, map(unquoted, overrides))])
        return LogTarget(folder, folder, None, name, plain)
    sweep, job = Path(hydra.sweep.dir), hydra.job.num
    return sweep_target(config, folder, plain, overrides, sweep, job, results.noted_keys(sweep))


def sweep_target(
    config: RunConfig,
    folder: Path,
    plain: dict[str, Any],
    overrides: Sequence[str],
    sweep: Path,
    number: int,
    keys: Sequence[str],
) -> LogTarget:
    """Where the results and loggers of a sweep's job go.

    Args:
        plain: the resolved config.
        overrides: of the job.
        sweep: its folder.
        number: of the job.
        keys: that vary between the sweep's jobs: the run's name has them.
    """
    settings = _settings(keys, overrides, plain)
    return LogTarget(folder, sweep, sweep.name, f"{number}: {settings or _name(config)}", plain, settings)


def _settings(keys: Sequence[str], overrides: Sequence[str], plain: Mapping[str, Any]) -> str:
    """The overrides of these keys; where a job has none, the value that it has without.

    Example:
        >>> plain = {"seed": 0, "init": {"name": "gaussian", "scale": 0.1}}
        >>> _settings(["seed", "init", "init.scale"], ["lr.eta=0.2", "seed=0"], plain)
        'seed=0 init=gaussian init.scale=0.1'
    """
    given = {override.partition("=")[0]: unquoted(override) for override in overrides}
    told = []
    for key in keys:
        value: Any = plain
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        value = value.get("name") if isinstance(value, Mapping) else value
        if key in given or value is not None:
            told.append(given.get(key, f"{key}={value}"))
    return " ".join(told)


def _tells_more(override: str) -> bool:
    """Whether an override decides what a run computes and is not in its name anyway."""
    key = override.lstrip("+~").partition("=")[0]
    return key not in IN_NAMES and key.split(".")[0] not in NOT_HASHED


def _name(config: RunConfig) -> str:
    return f"{describe(config)}, seed {config.seed}"


def describe(config: RunConfig) -> str:
    """What a run is, in a few words."""
    kind = config.factorization.name
    what = f"depth {config.depth.layers}" if kind == "matrix" else kind
    return what if kind == "linear" else f"{what}, {config.init.name}"


def kept(folder: Path, digest: str, told: bool = True) -> float | None:
    """The last loss of a complete run of this config in the folder, `told` in a line; None where there is none.

    Raises:
        ConfigError: the folder holds the results of another config.
    """
    summary = results.complete_summary(folder)
    if summary is None:
        return None
    if summary.get("config_hash") != digest:
        raise ConfigError("hydra.run.dir", str(folder), "a folder that does not hold the results of another config")
    if told:
        version = summary.get("versions", {}).get("rankward")
        other = "" if version == __version__ else f" (made by rankward {version}, this is {__version__})"
        say(f"{folder}: complete, kept{other}")
    return float(summary["metrics"]["loss"])


def _resume_from(config: RunConfig, folder: Path) -> Path | None:
    if config.ckpt_path is not None:
        return Path(config.ckpt_path)
    return newest(folder / results.CHECKPOINT)


def line(config: RunConfig, outcome: RunResult) -> str:
    """What became of a run, for the terminal."""
    return f"{outcome.folder}: {describe(config)}: {outcome.told}"


def begun(target: LogTarget) -> str:
    """The first line of a run's log: what it is."""
    return f"rankward {__version__}: {target.name} (config_hash {target.digest})"
