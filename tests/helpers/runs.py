"""Runs composed from the real config files, and trained in this process."""

from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rankward.config import CONFIG_FOLDER, register, run_config
from rankward.loggers.target import LogTarget
from rankward.training.module import EnsembleModule
from rankward.training.train import train

QUICK = ["depth='2'", "lr.eta=0.05", "init=balanced", "init.scale=1e-2", "init.determinant=positive"]
LONG = ["depth='3'", "init=balanced", "init.determinant=positive", "max_iterations=200000"]


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


def contents(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "trace.parquet").read_bytes(), (folder / "factors.safetensors").read_bytes()


def interrupted_after(monkeypatch, chunks):
    """Ask for an end after so many chunks, as a signal would."""
    step = EnsembleModule.training_step

    def training_step(self, batch, batch_idx):
        step(self, batch, batch_idx)
        self.interrupted = batch_idx + 1 >= chunks

    monkeypatch.setattr(EnsembleModule, "training_step", training_step)
