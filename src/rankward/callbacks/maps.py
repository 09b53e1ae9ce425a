"""Ranks of the input-output map of any Lightning model, on a grid of inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import pytorch_lightning as pl
import torch
from torch import Tensor

from rankward.callbacks.base import EVERY_N_STEPS, ScheduledMetrics, columns_of, positive, probing, submodule
from rankward.callbacks.spectra import spectrum
from rankward.metrics import EffectiveRank, MatricizationEffectiveRank, MultilinearRank, NumericalRank, TraceMetric
from rankward.metrics.functional.matricizations import matricization, mode_groups


def combined(parts: Sequence[Tensor]) -> Tensor:
    """Inputs [batch, ...] from their parts: numbers side by side, and arrays joined along their last axis.

    Example:
        >>> combined([torch.tensor([1, 2]), torch.tensor([3, 4])]).tolist()
        [[1, 3], [2, 4]]
    """
    return torch.cat([part[:, None] if part.ndim == 1 else part for part in parts], dim=-1)


class MapRank(ScheduledMetrics):
    """Ranks of the function that a network computes, logged as `<name>/<column>`.

    The network is evaluated on all combinations of `grid`, and its outputs are the tensor [d_1, ..., d_N]; several
    outputs of an input are one more mode. A tensor of two modes is a matrix and has one effective and one numerical
    rank. A tensor of more modes has an effective rank for each matricization and a numerical rank for each mode. The
    model runs in evaluation mode, without gradients, at the training's precision and with random states of its own:
    training keeps its bits. For a network as in Figure 3 these are the ranks of the tensor that it factorizes.

    Args:
        grid: for each of the N modes its points, a tensor [d_n, ...], or their number d_n for the indices 0, ...,
            d_n - 1: `(8, 8, 8)` gives the network index tuples [batch, 3].
        metrics: others than these; of a matrix for two modes, of a tensor for more.
        every_n_steps: updates from one measurement to the next.
        name: of the columns.
        combine: from the parts of a batch of inputs, N tensors [batch, ...], to what the network takes; `combined`
            joins them along their last axis.
        rtol: of the numerical rank; singular values up to this share of the largest do not count. 1e-3 by default.
        batch_size: inputs of one evaluation.
        network: the name of the module that is evaluated; empty for the LightningModule's `forward`.

    Raises:
        ValueError: from the constructor, fewer than two modes, a mode without points, or `rtol` beside `metrics`. At
            the start of training: an unknown network, outputs that are not one row an input, or a metric that needs
            more than a tensor has.

    Example:
        >>> from rankward.models import ConvolutionalArithmeticCircuit
        >>> callback = MapRank(grid=(3, 4), every_n_steps=100)
        >>> tensor = callback.tensor(ConvolutionalArithmeticCircuit((3, 4), channels=1))
        >>> tensor.shape, round(callback.columns(tensor)["map/rank/effective"].item(), 6)
        (torch.Size([3, 4]), 1.0)
    """

    def __init__(
        self,
        grid: Sequence[int | Tensor],
        metrics: Sequence[TraceMetric] | None = None,
        every_n_steps: int = EVERY_N_STEPS,
        name: str = "map",
        combine: Callable[[Sequence[Tensor]], Tensor] = combined,
        rtol: float | None = None,
        batch_size: int = 4096,
        network: str = "",
    ) -> None:
        if metrics is not None and rtol is not None:
            raise ValueError(f"rtol: {rtol} has no effect with metrics; expected NumericalRank(rtol={rtol}) among them")
        self.rtol = 1e-3 if rtol is None else rtol
        self.given = metrics is not None
        super().__init__(_defaults(2, self.rtol) if metrics is None else metrics, every_n_steps)
        self.points = [torch.arange(max(points, 0)) if isinstance(points, int) else points for points in grid]
        if len(self.points) < 2 or any(points.ndim == 0 or len(points) == 0 for points in self.points):
            shown = ", ".join(str(list(points.shape)) for points in self.points)
            raise ValueError(
                f"grid: points of shapes {shown} are not allowed; expected two modes or more, each with points"
            )
        self.name, self.combine, self.network = name, combine, network
        self.batch_size = positive("batch_size", batch_size)

    def measured(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Tensor]:
        with probing(trainer, pl_module):
            tensor = self.tensor(submodule(pl_module, self.network), pl_module.device)
        return self.columns(tensor)

    def tensor(self, network: Callable[[Tensor], Tensor], device: torch.device | str = "cpu") -> Tensor:
        """Outputs of a network for all combinations of the grid, [d_1, ..., d_N], or [..., outputs] for several."""
        points = [each.to(device) for each in self.points]
        dims = [len(each) for each in points]
        outputs = []
        for first in range(0, prod(dims), self.batch_size):
            flat = torch.arange(first, min(first + self.batch_size, prod(dims)), device=device)
            indices = torch.unravel_index(flat, dims)
            output = network(self.combine([each[index] for each, index in zip(points, indices, strict=True)]))
            if not isinstance(output, Tensor) or output.ndim == 0 or len(output) != len(flat):
                shown = f"shape {list(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
                raise ValueError(f"network: its output for {len(flat)} inputs has {shown}; expected a row an input")
            outputs.append(output.reshape(len(flat), -1))
        values = torch.cat(outputs)
        return values.reshape(*dims, *([values.shape[1]] if values.shape[1] > 1 else []))

    def columns(self, tensor: Tensor) -> dict[str, Tensor]:
        """Values of all metrics for a tensor, scalars under `<name>/<column>`."""
        stack = (tensor.cpu() if tensor.device.type == "mps" else tensor).double()[None]
        metrics = self.metrics if self.given else _defaults(tensor.ndim, self.rtol)
        if tensor.ndim == 2:
            kinds, values = ("matrix", "tensor", "any"), {"singular_values": spectrum([stack])}
            return columns_of(metrics, [self.name], kinds, product=stack, **values)
        by_modes = {modes: spectrum([matricization(stack, modes)]) for modes in mode_groups(tensor.ndim)}
        return columns_of(metrics, [self.name], ("tensor", "any"), product=stack, matricization_values=by_modes)


def _defaults(order: int, rtol: float) -> list[TraceMetric]:
    """The effective and the numerical ranks of a tensor of some order."""
    if order == 2:
        return [EffectiveRank(), NumericalRank(rtol)]
    return [MatricizationEffectiveRank(), MultilinearRank(rtol)]
