"""Layout of a factorization for the compiled engine: flat arrays, and the choice of a kernel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod

import numpy as np

from rankward.dynamics.cp import Plan
from rankward.dynamics.graph import Graph
from rankward.dynamics.kernels import blocked, cache
from rankward.dynamics.kernels.flow import FLOWS
from rankward.dynamics.rates import noise_fields
from rankward.dynamics.state import ALONG_GRADIENT, Rule
from rankward.dynamics.tracing import Untraceable, trace
from rankward.factorizations.base import Components, Factorization, Spectral
from rankward.losses import SQUARED, Loss, Squared
from rankward.optimizers import Scheduled

REGISTER = 64  # bytes of one number of all runs in a register
LANES_BYTES = 3 * 2**19  # for all numbers of a graph; see `fits_lanes`
SMALL_GRAPH_BYTES = 2**17  # a register of runs pays off from the third run below this, else from the fifth
# Columns of rates, stored behind a run's values: see `rates_of`, and `fused.py` for flows.
STEPS = {name: 3 + len(each.numbers) + len(each.per_run) for name, each in ALONG_GRADIENT.items()}
RATES = {**STEPS, **dict.fromkeys(FLOWS, 11)}


class Layout(ABC):
    """Convert between arrays with a runs axis and the kernel's arrays; `uses_blas`: the kernel calls BLAS."""

    uses_blas = False

    @abstractmethod
    def packed(self, factors: Sequence[np.ndarray]) -> np.ndarray:
        """Factors [runs, *shape] as [runs, parameters], a copy."""

    @abstractmethod
    def unpacked(self, flat: np.ndarray) -> list[np.ndarray]:
        """The inverse of `packed`."""

    @abstractmethod
    def entries(self, array: np.ndarray) -> np.ndarray:
        """Operator or values with a runs axis as [runs, entries]."""

    @property
    @abstractmethod
    def parameters(self) -> int:
        """The number of parameters of a run, without padding."""

    @abstractmethod
    def kernel(self, runs_a_thread: int, dynamics: str) -> tuple[cache.Kernel, np.ndarray]:
        """The compiled function for this many runs on a thread, and its array that describes the factorization."""


class GraphLayout(Layout):
    """Factors one after the other in row-major order, for a traced factorization.

    Args:
        graph: of half sum and gradients, or of half sum and an optimizer's step.
        shapes: of the factors, without a runs axis.
        name: of the factorization, for files.
    """

    def __init__(self, graph: Graph, shapes: Sequence[tuple[int, ...]], name: str) -> None:
        self.graph, self.shapes, self.name = graph, list(shapes), name
        self.form = cache.form(graph)
        self.uses_blas = self.form == "blas"
        self._kernels: dict[tuple[str, str], tuple[cache.Kernel, np.ndarray]] = {}

    def packed(self, factors: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([factor.reshape(len(factor), -1) for factor in factors], axis=1)

    def unpacked(self, flat: np.ndarray) -> list[np.ndarray]:
        ends = np.cumsum([prod(shape) for shape in self.shapes])[:-1]
        parts = np.split(flat, ends, axis=1)
        return [part.reshape(len(flat), *shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def entries(self, array: np.ndarray) -> np.ndarray:
        return array.reshape(len(array), -1)

    @property
    def parameters(self) -> int:
        return sum(map(prod, self.shapes))

    def kernel(self, runs_a_thread: int, dynamics: str) -> tuple[cache.Kernel, np.ndarray]:
        kind = self.form
        if kind == "blocked":
            # The same bits either way: a register of runs when there are enough of them and their work fits in cache.
            few = runs_a_thread <= (2 if REGISTER * self.graph.numbers <= SMALL_GRAPH_BYTES else 4)
            kind = "lanes" if fits_lanes(self.graph) and not few else "single"
        if (kind, dynamics) not in self._kernels:
            self._kernels[kind, dynamics] = self._made(kind, dynamics)
        return self._kernels[kind, dynamics]

    def _made(self, kind: str, dynamics: str) -> tuple[cache.Kernel, np.ndarray]:
        if kind == "unrolled":
            return cache.unrolled_kernel(self.graph, self.name, dynamics), np.zeros(1, np.int64)
        graph = self.graph
        rates = noise_fields(graph.noise, graph.noise_sizes[0]) if graph.noise else RATES.get(dynamics, 0)
        sizes = blocked.encoded(graph, rates, kind != "lanes", dynamics in FLOWS)
        dynamics = "noisy" if self.graph.noise else dynamics
        return cache.blocked_kernels(kind, self.graph.dtype, dynamics).drive, sizes


def fits_lanes(graph: Graph) -> bool:
    """Whether the numbers of a register of runs stay in cache; else one run at a time is faster."""
    return REGISTER * graph.numbers <= LANES_BYTES


class ComponentsLayout(Layout):
    """Chunks of components, tiles of entries; see `Plan`."""

    def __init__(self, plan: Plan, dtype: str) -> None:
        self.plan, self.dtype = plan, dtype

    def packed(self, factors: Sequence[np.ndarray]) -> np.ndarray:
        return self.plan.packed(factors)

    def unpacked(self, flat: np.ndarray) -> list[np.ndarray]:
        return self.plan.unpacked(flat)

    def entries(self, array: np.ndarray) -> np.ndarray:
        return self.plan.tiled(array)

    @property
    def parameters(self) -> int:
        return self.plan.components * sum(self.plan.dims)

    def kernel(self, runs_a_thread: int, dynamics: str) -> tuple[cache.Kernel, np.ndarray]:
        return cache.cp_kernels(self.plan.vectors, self.dtype, dynamics).drive, self.plan.sizes


class SingularLayout(GraphLayout):
    """U, ln sigma and V one after the other, for the kernel of singular coordinates, which no graph describes.

    Args:
        form: sizes and depth.
        measurements: of sensing matrices; 0 for a mask.
    """

    def __init__(self, form: Spectral, measurements: int) -> None:
        self.shapes = form.shapes
        rows, cols = form.dims
        depth = int(np.array(float(form.depth)).view(np.int64))
        self.sizes = np.array([rows, cols, min(rows, cols), measurements, depth])

    def kernel(self, runs_a_thread: int, dynamics: str) -> tuple[cache.Kernel, np.ndarray]:
        return cache.singular_kernel(), self.sizes


def layout_of(
    factorization: Factorization,
    operator: Sequence[int],
    values: Sequence[int],
    dtype: str,
    rule: Rule | None = None,
    loss: Loss = SQUARED,
) -> Layout:
    """The layout of a factorization, cached on it.

    Args:
        operator, values: shapes of the mask or the sensing matrices, and of the values, without a runs axis.
        dtype: of the runs, `float64` or `float32`.
        rule: of the runs; None for gradient descent and for a flow.
        loss: of the runs.

    Raises:
        Untraceable: the factorization, the optimizer or the loss has no graph.
    """
    cached = factorization.__dict__.setdefault("_layouts", {})
    key = (tuple(operator), tuple(values), dtype, rule and rule.constants, loss.constants)
    if key not in cached:
        cached[key] = _layout(factorization, *key[:3], rule, loss)
    layout: Layout = cached[key]
    return layout


def _layout(
    factorization: Factorization,
    operator: tuple[int, ...],
    values: tuple[int, ...],
    dtype: str,
    rule: Rule | None,
    loss: Loss,
) -> Layout:
    form, squared = factorization.form, type(loss) is Squared
    if isinstance(form, Spectral):
        return SingularLayout(form, 0 if operator == values else operator[0])
    optimizer, kinds = (None, ()) if rule is None else (rule.optimizer, rule.kinds)
    # The CP kernel only knows descent on the squared loss: its factorizations have a graph, too, for all others.
    if rule is None and squared and isinstance(form, Components) and operator == values and _is_large(form):
        return ComponentsLayout(Plan(form.dims, form.components, dtype), dtype)
    traced = (factorization.product, factorization.shapes, operator, values, dtype)
    try:
        graph = trace(*traced, optimizer, loss, kinds)
    except Untraceable as error:
        if rule is None and squared:
            raise
        trace(*traced)  # raises if the factorization is at fault
        if not squared:
            try:
                trace(*traced, loss=loss)
            except Untraceable as of_loss:
                raise Untraceable(str(of_loss), "this loss") from of_loss
        subject = "this optimizer, or its schedule," if isinstance(optimizer, Scheduled) else "this optimizer"
        raise Untraceable(str(error), subject) from error
    others = [*([] if optimizer is None else [optimizer]), *([] if squared else [loss])]
    name = "_".join(type(each).__name__.lower() for each in (factorization, *others))
    return GraphLayout(graph, factorization.shapes, name)


def _is_large(components: Components) -> bool:
    """Whether the CP kernel is the faster one, alone and in batches; see `benchmarks/factorizations.py`."""
    return 4 * prod(components.dims) * components.components > cache.UNROLLED_LIMIT
