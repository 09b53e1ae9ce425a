"""Runs composed from the real config files, and trained in this process."""

from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rankward.config import CONFIG_FOLDER, register, run_config
from rankward.loggers.run import LogTarget
from rankward.training.train import train


def composed(*overrides: str):
    """The config of a run, checked, and as plain values."""
    register()
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        cfg = compose("config", overrides=list(overrides))
    return run_config(cfg), OmegaConf.to_container(cfg, resolve=True)


def trained(tmp_path: Path, *jobs: list[str], ckpt_path: Path | None = None, logger: str = "none"):
    """Train jobs as one ensemble, each in a folder of its own, named by its place."""
    pairs = [composed(f"logger={logger}", *job) for job in jobs]
    targets = [LogTarget(tmp_path / str(i), tmp_path, "sweep", f"run {i}", plain) for i, (_, plain) in enumerate(pairs)]
    return train([run for run, _ in pairs], targets, ckpt_path)
