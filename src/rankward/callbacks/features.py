"""Metrics of the features of any Lightning model on a fixed batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from rankward.callbacks.base import EVERY_N_STEPS, ScheduledMetrics, columns_of, matching, plain, probing, submodule
from rankward.callbacks.spectra import spectrum
from rankward.metrics import TraceMetric

FLATTEN = {"example,rest": 0, "rest,channel": 1, "rest,last": -1}  # and the axis that has a side of its own


class FeatureMetrics(ScheduledMetrics):
    """Ranks, norms and other metrics of the outputs of modules on a fixed batch, logged as `<module>/<column>`.

    The outputs [examples, ...] of each module are a matrix. The model runs on `probe` in evaluation mode, without
    gradients, at the training's precision and with random states of its own: training keeps its bits.

    Args:
        metrics: of singular values or of a matrix.
        probe: what the network takes; tensors, also inside of lists and dictionaries, go to the model's device.
        layers: a pattern of the shell for names of modules, or several; each module runs once and returns a tensor.
        every_n_steps: updates from one measurement to the next.
        flatten: how the axes of outputs become rows and columns: examples along the rows (`example,rest`), channels,
            which are axis 1, along the columns (`rest,channel`), or the last axis along the columns (`rest,last`, for
            the features of tokens).
        center: subtract the mean row.
        network: the name of the module that runs on the batch; empty for the LightningModule's `forward`.

    Raises:
        ValueError: from the constructor, an unknown `flatten`. At the start of training: a pattern that matches
            nothing, a module that returns no tensor of two axes or more or does not run once, an unknown network, a
            metric that needs more than a matrix of features has.

    Example:
        >>> import torch
        >>> from rankward.metrics import EffectiveRank
        >>> callback = FeatureMetrics([EffectiveRank()], probe=torch.randn(64, 8), layers="net.*", every_n_steps=100)
    """

    def __init__(
        self,
        metrics: Sequence[TraceMetric],
        probe: Any,
        layers: str | Sequence[str],
        every_n_steps: int = EVERY_N_STEPS,
        flatten: str = "example,rest",
        center: bool = False,
        network: str = "",
    ) -> None:
        super().__init__(metrics, every_n_steps)
        if flatten not in FLATTEN:
            raise ValueError(f"flatten: {flatten!r} is not allowed; expected one of {', '.join(map(repr, FLATTEN))}")
        self.probe, self.layers, self.flatten, self.center, self.network = probe, layers, flatten, center, network

    def measured(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Tensor]:
        columns: dict[str, Tensor] = {}
        for name, output in self._outputs(trainer, pl_module).items():
            features = self._matrix(name, output)[None]
            columns |= columns_of(
                self.metrics, [name], ("matrix", "any"), product=features, singular_values=spectrum([features])
            )
        return columns

    def _outputs(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        network = submodule(pl_module, self.network)
        modules = {plain(name): module for name, module in pl_module.named_modules() if name}
        kinds = {name: type(module).__name__ for name, module in modules.items()}
        names = matching("layers", self.layers, kinds, "module")
        runs: dict[str, list[Any]] = {name: [] for name in names}

        def keep(name: str) -> Any:
            return lambda module, inputs, output: runs[name].append(output)

        handles = [modules[name].register_forward_hook(keep(name)) for name in names]
        try:
            with probing(trainer, pl_module):
                network(pl.utilities.move_data_to_device(self.probe, pl_module.device))
        finally:
            for handle in handles:
                handle.remove()
        for name, outputs in runs.items():
            if len(outputs) != 1:
                raise ValueError(f"layers: {name!r} runs {len(outputs)} times on the probe batch; expected once")
        return {name: outputs[0] for name, outputs in runs.items()}

    def _matrix(self, name: str, output: Any) -> Tensor:
        axis = FLATTEN[self.flatten]
        if not isinstance(output, Tensor) or output.ndim < 2:
            shown = f"a tensor of shape {list(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(f"layers: {name!r} returns {shown}; expected a tensor of two axes or more")
        output = (output.cpu() if output.device.type == "mps" else output).double()
        matrix = output.flatten(1) if axis == 0 else output.movedim(axis, -1).flatten(0, -2)
        return matrix - matrix.mean(0) if self.center else matrix
