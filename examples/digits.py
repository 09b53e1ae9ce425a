"""Train a network on digits with their real labels and with random ones, and measure ranks on the way.

The scripts `digits_mlp.py`, `digits_convnet.py` and `digits_transformer.py` call `run` with their networks. Everything
else is the same for the three of them: the images, the labels, the optimizer and the stop, at a training loss of 0.01.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import polars as pl
import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import EarlyStopping
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from rankward.callbacks import FeatureMetrics, MapRank, WeightMetrics
from rankward.metrics import EffectiveRank

LABELS = {"real": "#1f6fb4", "random": "#d1622b"}  # and the color of their curves
TRAIN, BATCH, HALVES = 1000, 100, 32  # images to train on; images a step; left and right halves of the map's grid


@dataclass(frozen=True)
class Example:
    """A network for images [batch, 8, 8] with 10 outputs, and the layers of which ranks are shown.

    Args:
        network: makes it.
        weight: the name of a weight.
        features: the name of a module, whose outputs on 256 test images are measured.
        flatten: the axes of these outputs that become columns; see `FeatureMetrics`.
    """

    name: str
    network: Callable[[], nn.Module]
    weight: str
    features: str
    flatten: str = "example,rest"


class Classifier(lightning.LightningModule):
    """A network, trained by Adam on the cross-entropy; after each epoch, its loss and accuracy on both sets."""

    def __init__(self, network: nn.Module, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> None:
        super().__init__()
        self.network, self.sets = network, {"train": train, "test": test}

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.network(images)
        return outputs

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        return cross_entropy(self(images), labels)

    def on_train_epoch_end(self) -> None:
        with torch.no_grad():
            for name, (images, labels) in self.sets.items():
                outputs = self(images)
                self.log(f"{name}/loss", cross_entropy(outputs, labels))
                self.log(f"{name}/accuracy", (outputs.argmax(1) == labels).double().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def data(labels: str, seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Images [n, 8, 8] with mean 0 and labels [n]: 1,000 to train on, and 797 to test. Random labels are permuted."""
    digits = load_digits()
    images = torch.from_numpy(digits.images).float() / 16
    images -= images.mean()
    targets = torch.from_numpy(digits.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, targets = images[order], targets[order]
    if labels == "random":
        targets = targets[torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed + 1))]
    return (images[:TRAIN], targets[:TRAIN]), (images[TRAIN:], targets[TRAIN:])


def train(example: Example, labels: str, seed: int, steps: int, stop: float, folder: Path) -> pl.DataFrame:
    """Train once; the rows of its CSV log."""
    lightning.seed_everything(seed, verbose=False)
    torch.set_num_threads(1)  # the networks are small
    training, test = data(labels, seed)
    images = test[0]
    halves = images[:HALVES, :, :4], images[:HALVES, :, 4:]
    every = 50
    callbacks = [
        WeightMetrics([EffectiveRank()], layers=example.weight, every_n_steps=every),
        FeatureMetrics([EffectiveRank()], images[:256], example.features, every, example.flatten),
        MapRank(halves, every_n_steps=every),  # left halves × right halves × 10 outputs
        EarlyStopping("train/loss", stopping_threshold=stop, patience=10**6, check_on_train_epoch_end=True),
    ]
    logger = lightning.loggers.CSVLogger(str(folder), name=f"{example.name}_{labels}", version=seed)
    trainer = lightning.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=logger,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    batches = BatchSampler(RandomSampler(training[0]), BATCH, drop_last=False)
    loader = DataLoader(TensorDataset(*training), sampler=batches, batch_size=None)
    trainer.fit(Classifier(example.network(), training, test), loader)
    return pl.read_csv(Path(logger.log_dir) / "metrics.csv").with_columns(labels=pl.lit(labels), seed=seed)


def run(example: Example) -> None:
    """Train with real and with random labels over seeds, draw the curves, and print the last values."""
    parser = argparse.ArgumentParser(description=f"Ranks of {example.name} on digits, with real and random labels.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20_000, help="at most")
    parser.add_argument("--stop", type=float, default=0.01, help="training loss at which a run ends")
    parser.add_argument("--folder", type=Path, default=Path("outputs/examples"))
    options = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    panels = {
        "train/loss": "training loss",
        f"{example.weight}/rank/effective": "weight",
        f"{example.features}/rank/effective": "features",
        "map/rank/effective_0": "map, left halves × rest",
        "map/rank/effective_2": "map, outputs × rest",
    }
    runs = [
        train(example, labels, seed, options.steps, options.stop, options.folder)
        for labels in LABELS
        for seed in range(options.seeds)
    ]
    figure, axes = plt.subplots(1, len(panels), figsize=(13, 2.8), layout="constrained")
    for log in runs:
        labels, seed = log["labels"][0], log["seed"][0]
        for axis, column in zip(axes, panels, strict=True):
            curve = log.drop_nulls(column)
            label = f"{labels} labels" if seed == 0 else None
            axis.plot(curve["step"], curve[column], color=LABELS[labels], linewidth=1, label=label)
    for axis, (column, title) in zip(axes, panels.items(), strict=True):
        axis.set(title=title, xlabel="step", ylabel="" if "loss" in column else "effective rank")
        axis.set_xscale("symlog", linthresh=50)
        axis.set_xlim(0)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yscale("log")
    axes[0].legend(frameon=False)
    options.folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.folder / f"{example.name}.png", dpi=110)
    shown = [pl.col("step").max(), *(pl.col(column).drop_nulls().last() for column in (*panels, "test/accuracy"))]
    last = pl.concat([log.group_by("labels", "seed").agg(shown) for log in runs])
    last.write_csv(options.folder / f"{example.name}.csv")
    with pl.Config(tbl_cols=-1, tbl_width_chars=200, float_precision=3):
        print(last)
