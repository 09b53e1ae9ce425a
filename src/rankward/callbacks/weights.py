"""Metrics of the weights of any Lightning model: layers, heads of attention, and products of weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from rankward.callbacks.base import EVERY_N_STEPS, ScheduledMetrics, columns_of, listed, matching, plain
from rankward.callbacks.spectra import spectrum
from rankward.metrics import SpectralMetric, TraceMetric

FLATTEN = ("out,rest", "in,rest")
BLOCK_BYTES = 2**28  # of a stack of equal matrices in float64
KINDS = ("matrix", "any")  # of metrics that can measure a weight
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)  # their weights are [in, out, ...]


View = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Factor:
    """A matrix that is read off a parameter."""

    parameter: str
    view: View


class WeightMetrics(ScheduledMetrics):
    """Ranks, norms and other metrics of a model's weights, logged as `<name>/<column>`.

    Matrices of the same shape are stacked and decomposed in one call, on their device, and all metrics share the
    singular values. They are float64, and computed on the processor where a device (MPS) has no float64. Weights with
    NaN or infinity have NaN columns; zero ones have what the metric says.

    Args:
        metrics: of singular values or of a matrix, such as `EffectiveRank()`.
        layers: a pattern of the shell for names of parameters, or several; None for none. Vectors (biases, scales) are
            left out. A weight W [out, in] is measured as it is, so is an embedding; `in_proj_weight` of
            `torch.nn.MultiheadAttention` is three matrices, `q_proj_weight`, `k_proj_weight` and `v_proj_weight`.
        every_n_steps: updates from one measurement to the next.
        flatten: the matrix of a weight with more axes, as of a convolution: output channels along the rows and the rest
            along the columns (`out,rest`), or input channels along the rows (`in,rest`). For a grouped convolution one
            side has the channels of a single group.
        attention: a pattern for names of `torch.nn.MultiheadAttention` modules, or several. Head h of `attn` has the
            matrices `attn.head_<h>.q`, `.k`, `.v` (rows of W_Q, W_K, W_V) and `.o` (columns of W_O), and the products
            that the head applies: `.qk`, W_Q^T W_K, and `.ov`, W_O W_V. Weights are torch's, which act as W x; written
            for row vectors x W these are W_Q W_K^T and W_V W_O.
        products: for each name the parameters whose product is meant, in the order of the product, each a matrix;
            `.T` behind one transposes it: `{"lora": ("layer.lora_B", "layer.lora_A")}` is B A. The product itself is
            formed only for metrics that need more than its singular values.

    Raises:
        ValueError: from the constructor, an unknown `flatten`, or nothing to measure. At the start of training: a
            pattern that matches nothing, an unknown parameter, shapes without a product, sharded, complex or quantized
            weights, a metric that needs more than a weight has (a ground truth) or has no column for its shape.

    Example:
        >>> from rankward.metrics import EffectiveRank, StableRank
        >>> callback = WeightMetrics([EffectiveRank(), StableRank()], layers="*.weight", every_n_steps=100)
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 3, bias=False))
        >>> _ = torch.nn.init.eye_(model[0].weight)
        >>> {name: round(value.item(), 12) for name, value in callback.columns(model).items()}
        {'0.weight/rank/effective': 3.0, '0.weight/rank/stable': 3.0}
    """

    def __init__(
        self,
        metrics: Sequence[TraceMetric],
        layers: str | Sequence[str] | None = "*.weight",
        every_n_steps: int = EVERY_N_STEPS,
        flatten: str = "out,rest",
        attention: str | Sequence[str] | None = None,
        products: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__(metrics, every_n_steps)
        if flatten not in FLATTEN:
            raise ValueError(f"flatten: {flatten!r} is not allowed; expected one of {', '.join(map(repr, FLATTEN))}")
        if layers is None and attention is None and not products:
            raise ValueError("layers: nothing is left to measure; expected layers, attention or products")
        self.layers, self.flatten, self.attention = layers, flatten, attention
        self.products = dict(products or {})

    def measured(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Tensor]:
        return self.columns(pl_module)

    def columns(self, model: nn.Module) -> dict[str, Tensor]:
        """Values of all metrics for the weights of a module as they are, scalars under `<name>/<column>`."""
        parameters = {plain(name): value.detach() for name, value in model.named_parameters(remove_duplicate=False)}
        groups: dict[object, list[tuple[str, list[Tensor]]]] = {}
        for name, factors in self._matrices(model, parameters).items():
            views = [factor.view(parameters[factor.parameter]) for factor in factors]
            groups.setdefault(tuple((view.shape, view.device) for view in views), []).append((name, views))
        columns: dict[str, Tensor] = {}
        for group in groups.values():
            block = max(1, BLOCK_BYTES // (8 * sum(view.numel() for view in group[0][1])))
            for start in range(0, len(group), block):
                columns |= self._stack(group[start : start + block])
        return columns

    def _stack(self, group: list[tuple[str, list[Tensor]]]) -> dict[str, Tensor]:
        """Columns of matrices of one shape."""
        names = [name for name, _ in group]
        stacks = [torch.stack([views[n] for _, views in group]) for n in range(len(group[0][1]))]
        stacks = [(stack.cpu() if stack.device.type == "mps" else stack).double() for stack in stacks]
        spectral = all(type(metric).update is SpectralMetric.update for metric in self.metrics)
        product = stacks[0] if spectral else reduce(torch.matmul, stacks)  # not read where singular values are given
        return columns_of(self.metrics, names, KINDS, product=product, singular_values=spectrum(stacks))

    def _matrices(self, model: nn.Module, parameters: Mapping[str, Tensor]) -> dict[str, list[Factor]]:
        """Every matrix to measure, by name, as the factors of a product."""
        modules = {plain(name): module for name, module in model.named_modules(remove_duplicate=False)}
        matrices: dict[str, list[Factor]] = {}
        if self.layers is not None:
            shapes = {name: _shape(value) for name, value in parameters.items() if value.ndim >= 2}
            chosen = matching("layers", self.layers, shapes, "weight of two axes or more")
            if self.flatten != FLATTEN[0] and all(parameters[name].ndim == 2 for name in chosen):
                raise ValueError(
                    f"flatten: {self.flatten!r} has no effect: no weight of more than two axes is measured"
                )
            for name in _distinct(chosen, parameters):
                owner = modules[name.rpartition(".")[0]]
                if isinstance(owner, nn.MultiheadAttention) and name.endswith("in_proj_weight"):
                    base = name.removesuffix("in_proj_weight")
                    for letter, factor in _projections(base, owner).items():
                        matrices[f"{base}{letter}_proj_weight"] = [factor]
                else:
                    rows = (self.flatten == "in,rest") != isinstance(owner, TRANSPOSED)
                    matrices[name] = [Factor(name, _flattened(int(rows)))]
        if self.attention is not None:
            attention = {
                name: f"{module.num_heads} heads"
                for name, module in modules.items()
                if isinstance(module, nn.MultiheadAttention)
            }
            for name in matching("attention", self.attention, attention, "torch.nn.MultiheadAttention"):
                matrices |= _heads(name, modules[name])
        for name, factors in self.products.items():
            if name in matrices:
                raise ValueError(f"products: {name!r} is also the name of a weight that is measured")
            matrices[name] = _product(name, factors, parameters)
        for name in {factor.parameter for factors in matrices.values() for factor in factors}:
            _check_readable(name, parameters[name])
        return matrices


def _shape(parameter: Tensor) -> str:
    return " × ".join(map(str, parameter.shape))


def _distinct(names: Sequence[str], parameters: Mapping[str, Tensor]) -> list[str]:
    """Names without those of a parameter that an earlier name has already: shared weights are measured once."""
    first: dict[object, str] = {}
    for name in names:
        first.setdefault((parameters[name].data_ptr(), parameters[name].shape), name)
    return list(first.values())


def _check_readable(name: str, parameter: Tensor) -> None:
    if hasattr(parameter, "full_tensor"):
        raise ValueError(
            f"{name}: it is sharded over processes; WeightMetrics needs whole weights, as strategy='ddp' has"
        )
    if not parameter.is_floating_point() or parameter.layout != torch.strided:
        raise ValueError(
            f"{name}: it is {parameter.dtype}, {parameter.layout}; expected dense real floating point numbers"
        )


def _flattened(axis: int) -> View:
    """A view with one axis along the rows; a matrix is left as it is."""
    return lambda weight: weight if weight.ndim == 2 else weight.movedim(axis, 0).flatten(1)


def _rows(start: int, count: int) -> View:
    return lambda weight: weight[start : start + count]


def _whole(weight: Tensor) -> Tensor:
    return weight


def _transposed(weight: Tensor) -> Tensor:
    return weight.mT


def _after(*views: View) -> View:
    """Views one after another, the first one first."""
    return lambda weight: reduce(lambda matrix, view: view(matrix), views, weight)


def _projections(base: str, module: nn.MultiheadAttention) -> dict[str, Factor]:
    """W_Q, W_K and W_V of an attention module whose parameters' names begin with `base`."""
    if module.in_proj_weight is None:
        return {letter: Factor(f"{base}{letter}_proj_weight", _whole) for letter in "qkv"}
    size = module.embed_dim
    return {letter: Factor(f"{base}in_proj_weight", _rows(n * size, size)) for n, letter in enumerate("qkv")}


def _heads(name: str, module: nn.Module) -> dict[str, list[Factor]]:
    """Matrices of every head of an attention module."""
    assert isinstance(module, nn.MultiheadAttention)
    base = f"{name}." if name else ""
    size, whole = module.head_dim, _projections(base, module)
    matrices: dict[str, list[Factor]] = {}
    for head in range(module.num_heads):
        rows = _rows(head * size, size)
        q, k, v = (Factor(each.parameter, _after(each.view, rows)) for each in whole.values())
        o = Factor(f"{base}out_proj.weight", _after(_transposed, rows, _transposed))
        q_transposed = Factor(q.parameter, _after(q.view, _transposed))
        parts = {"q": [q], "k": [k], "v": [v], "o": [o], "qk": [q_transposed, k], "ov": [o, v]}
        matrices |= {f"{base}head_{head}.{part}": factors for part, factors in parts.items()}
    return matrices


def _product(name: str, factors: Sequence[str], parameters: Mapping[str, Tensor]) -> list[Factor]:
    """The factors of a named product, with shapes that can be multiplied."""
    if isinstance(factors, str) or len(factors) < 2:
        raise ValueError(f"products.{name}: {factors!r} is not allowed; expected the names of two parameters or more")
    found, shapes = [], []
    matrices = {key: _shape(value) for key, value in parameters.items() if value.ndim == 2}
    for factor in factors:
        transposed = factor not in matrices and factor.endswith(".T")
        key = factor.removesuffix(".T") if transposed else factor
        if key not in matrices:
            raise ValueError(f"products.{name}: {factor!r} is not a parameter of two axes; {listed(matrices)}")
        found.append(Factor(key, _transposed if transposed else _whole))
        shapes.append(found[-1].view(parameters[key]).shape)
    if any(left[1] != right[0] for left, right in pairwise(shapes)):
        shown = " and ".join(f"{factor} ({a} × {b})" for factor, (a, b) in zip(factors, shapes, strict=True))
        raise ValueError(f"products.{name}: {shown} have no product in this order; .T behind a name transposes it")
    return found
