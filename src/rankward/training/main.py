"""One Hydra job: from its composed config to results in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from rankward import __version__, results
from rankward.config import ConfigError, RunConfig, setting
from rankward.training.hints import HINTS
from rankward.training.loggers import LogTarget
from rankward.training.train import RunResult, train


def run(cfg: DictConfig, config: RunConfig, folder: Path) -> float:
    """Train one run in `folder`, or keep what stands complete there; its last loss.

    Raises:
        Busy: another process trains there.
        KeyboardInterrupt: training was interrupted; what was done is saved.
    """
    target = log_target(cfg, config, folder)
    done = kept(folder, target.digest)
    if done is not None:
        return done
    folder.mkdir(parents=True, exist_ok=True)
    with results.claimed(folder):
        outcome = train([config], [target], _resume_from(config, folder))[0]
    if outcome.error is not None:
        raise outcome.error
    print(line(config, outcome), flush=True)
    if outcome.status == "interrupted":
        raise KeyboardInterrupt(f"interrupted; rankward resume {folder} goes on")
    return float(outcome.summary["metrics"]["loss"])


def log_target(cfg: DictConfig, config: RunConfig, folder: Path) -> LogTarget:
    """Where the job's results and loggers go; a sweep's W&B runs lie together under the sweep's folder."""
    resolved = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(resolved, dict)
    plain = {str(key): value for key, value in resolved.items()}
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    if hydra is None or hydra.mode != RunMode.MULTIRUN:
        return LogTarget(folder, folder, None, _name(config), plain)
    return sweep_target(config, folder, plain, Path(hydra.sweep.dir), hydra.job.num)


def sweep_target(config: RunConfig, folder: Path, plain: dict[str, Any], sweep: Path, number: int) -> LogTarget:
    """Where the results and loggers of a sweep's job of that number go."""
    return LogTarget(folder, sweep, sweep.name, f"{number}: {_name(config)}", plain)


def _name(config: RunConfig) -> str:
    return f"{describe(config)}, seed {config.seed}"


def describe(config: RunConfig) -> str:
    """What a run is, in a few words."""
    kind = setting(config.factorization, "name")
    what = f"depth {setting(config.depth, 'layers')}" if kind == "matrix" else kind
    return what if kind == "linear" else f"{what}, {setting(config.init, 'name')}"


def kept(folder: Path, digest: str) -> float | None:
    """The last loss of a complete run of this config in the folder, told; None where there is none.

    Raises:
        ConfigError: the folder holds the results of another config.
    """
    if not results.is_complete(folder):
        return None
    summary = results.read_summary(folder)
    if summary.get("config_hash") != digest:
        raise ConfigError("hydra.run.dir", str(folder), "a folder that does not hold the results of another config")
    version = summary.get("versions", {}).get("rankward")
    other = "" if version == __version__ else f" (made by rankward {version}, this is {__version__})"
    print(f"{folder}: complete, kept{other}", flush=True)
    return float(summary["metrics"]["loss"])


def _resume_from(config: RunConfig, folder: Path) -> Path | None:
    if config.ckpt_path is not None:
        return Path(config.ckpt_path)
    checkpoint = folder / results.CHECKPOINT
    return checkpoint if checkpoint.is_file() else None


def line(config: RunConfig, outcome: RunResult) -> str:
    """What became of a run, for the terminal."""
    summary = outcome.summary
    loss = summary["metrics"].get("loss", float("nan"))
    ended = (
        f"{outcome.folder}: {describe(config)}: {outcome.status} after {summary['iterations']:,} iterations, "
        f"loss {loss:.3g} ({summary['seconds']:.2f} s, {summary['engine']})"
    )
    return "; ".join([ended, *(summary["notes"][name] for name in HINTS if name in summary["notes"])])
