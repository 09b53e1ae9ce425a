"""Schedule, logging and metrics that all callbacks share."""

from __future__ import annotations

import contextlib
import copy
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from rankward.metrics import TraceMetric
from rankward.metrics.base import positive
from rankward.metrics.collection import arguments

EVERY_N_STEPS = 1000
LISTED = 10  # names in an error message
COMPILED = "_orig_mod."  # torch.compile puts it before the names of a compiled module


class ScheduledMetrics(pl.Callback, ABC):
    """A callback that measures at the start of training, at every multiple of `every_n_steps`, and at the end.

    A step is an update of the weights: values at step s belong to the weights after s updates, so those at step 0 are
    the initial ones. They go to all loggers of the module at step s, whatever the Trainer's `log_every_n_steps`, to
    `trainer.callback_metrics`, which `ModelCheckpoint` and `EarlyStopping` monitor, and to `values`. Every process of a
    distributed training measures its own copy, and the first one logs. Weights are the same in all of them; running
    statistics of a batch normalization are not, and features in evaluation mode depend on them.

    A new one implements `measured`.

    Args:
        metrics: metrics of `rankward.metrics`. The callback measures with copies of them.
        every_n_steps: updates from one measurement to the next.

    Attributes:
        values: the last measurement, as numbers by name.

    Raises:
        ValueError: no metrics, or a number of steps that is not an integer of at least 1.
        TypeError: something that is not a metric.
    """

    def __init__(self, metrics: Sequence[TraceMetric], every_n_steps: int = EVERY_N_STEPS) -> None:
        self.metrics = _copies(metrics)
        self.every_n_steps = positive("every_n_steps", every_n_steps)
        self.values: dict[str, float] = {}
        self._last: int | None = None

    @abstractmethod
    def measured(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Tensor]:
        """Values by the names under which they are logged, each a scalar; gradients are off."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._last = None
        self._log(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every_n_steps == 0:
            self._log(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._log(trainer, pl_module)

    def _log(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step == self._last:  # accumulated gradients: several batches an update
            return
        with torch.no_grad():
            columns = self.measured(trainer, pl_module)
            device = next(iter(columns.values())).device  # a model may be spread over several
            numbers = torch.stack([value.to(device) for value in columns.values()]).tolist()  # one transfer
        self.values = dict(zip(columns, numbers, strict=True))
        self._last = trainer.global_step
        for logger in trainer.loggers:
            logger.log_metrics(self.values, step=trainer.global_step)
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in self.values.items()})


def _copies(metrics: Sequence[TraceMetric]) -> list[TraceMetric]:
    given = list(metrics) if isinstance(metrics, Sequence) else [metrics]
    if not given:
        raise ValueError("metrics: none are given; expected a list such as [EffectiveRank()]")
    for each in given:
        if not isinstance(each, TraceMetric):
            hint = f"; {each.__name__}() makes one" if inspect.isclass(each) and issubclass(each, TraceMetric) else ""
            raise TypeError(f"metrics: {each!r} is not a metric of rankward.metrics{hint}")
    return [copy.deepcopy(each) for each in given]


def columns_of(
    metrics: Sequence[TraceMetric], names: Sequence[str], kinds: Collection[str], **offered: object
) -> dict[str, Tensor]:
    """Columns of every metric for a stack of arrays, under `<name>/<column>`.

    Args:
        metrics: their states are empty before and after.
        names: of the arrays.
        kinds: of metrics that can measure them.
        offered: arguments of `update`, with an axis of `names` first.

    Returns:
        scalars.

    Raises:
        ValueError: a metric of another kind, one that needs another argument or has no column here, or two metrics with
            the same column.
    """
    found: dict[str, Tensor] = {}
    there = f"{names[0]} has {', '.join(offered)}"
    for metric in metrics:
        kind, parameters = type(metric).__name__, arguments(metric)
        if metric.kind not in kinds:
            raise ValueError(f"{kind}: it measures {metric.kind!r}; {there}, for metrics of {' or '.join(kinds)}")
        missing = [n for n, p in parameters.items() if n not in offered and p.default is inspect.Parameter.empty]
        if missing:
            raise ValueError(f"{kind}: it needs {', '.join(missing)}; {there}")
        metric.reset()
        try:
            metric.update(**{name: value for name, value in offered.items() if name in parameters})
            columns = metric.columns()
        except Exception as error:
            raise ValueError(f"{kind}: {error} ({there})") from error
        finally:
            metric.reset()
        if not columns:
            others = [name for name in parameters if name not in offered]
            needs = f" without {', '.join(others)}" if others else " of this shape"
            raise ValueError(f"{kind}: it has no column{needs}; {there}")
        for column, values in columns.items():
            if f"{names[0]}/{column}" in found:
                raise ValueError(f"{kind}: another metric already fills column {column!r}")
            found |= {f"{name}/{column}": value for name, value in zip(names, values, strict=True)}
    return found


def matching(argument: str, patterns: str | Sequence[str], names: Mapping[str, str], what: str) -> list[str]:
    """Names that match one of some patterns of the shell, in their order.

    Args:
        argument: of the callback, for messages.
        patterns: one or several.
        names: all names, each with a few words on what it is.
        what: they are, in the plural.

    Raises:
        ValueError: a pattern matches none.
    """
    given = [patterns] if isinstance(patterns, str) else list(patterns)
    for pattern in given:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"{argument}: {pattern!r} matches no {what}; {listed(names)}")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in given)]


def listed(names: Mapping[str, str]) -> str:
    """A list for a message, of the first names if there are many.

    Example:
        >>> listed({"a": "2 × 3", "b": "4 × 5"}), listed({})
        ('there are a (2 × 3), b (4 × 5)', 'there are none')
    """
    shown = [f"{name} ({text})" if text else name for name, text in list(names.items())[:LISTED]]
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"there are {', '.join(shown) or 'none'}{more}"


def plain(name: str) -> str:
    """The name of a parameter or module without what torch.compile puts into it."""
    return name.replace(COMPILED, "")


@contextlib.contextmanager
def probing(trainer: pl.Trainer, pl_module: pl.LightningModule) -> Iterator[None]:
    """Evaluate the model without an effect on its training: in evaluation mode, at the training's precision.

    Modes of the modules and the states of torch's random numbers are restored at the end. Compiled modules run eagerly
    where torch can do so (2.6), since a compiled module does not call hooks that are added later.
    """
    modes = {module: module.training for module in pl_module.modules()}
    device = pl_module.device
    compiles = "torch._dynamo" in sys.modules  # whose import takes seconds
    stance = getattr(torch.compiler, "set_stance", None) if compiles else None
    with contextlib.ExitStack() as stack:
        if device.type == "cpu":
            stack.enter_context(torch.random.fork_rng([]))
        else:
            stack.enter_context(torch.random.fork_rng([device], device_type=device.type))
        stack.enter_context(trainer.precision_plugin.forward_context())
        if stance is not None:
            stack.enter_context(stance("force_eager"))
        pl_module.eval()
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode


def submodule(pl_module: pl.LightningModule, network: str) -> nn.Module:
    """The module of a name, the LightningModule itself for an empty one; ValueError if there is none."""
    named: dict[str, nn.Module] = {plain(name): module for name, module in pl_module.named_modules()}
    if network not in named:
        children = {plain(name): type(module).__name__ for name, module in pl_module.named_children()}
        raise ValueError(f"network: {network!r} is not a module of the model; {listed(children)}")
    return named[network]
