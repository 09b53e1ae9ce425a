"""The engine for observed entries by index: its work and memory grow with their number, not with the array's size.

It trains chains of matrices and components, one run after another, with the threads of a run side by side. Kernels sum
in an order that does not depend on the number of threads, and BLAS multiplies on one thread: so bits do not, either.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from rankward.dynamics.kernels import cache
from rankward.dynamics.noise import drawn, ranks, scaled
from rankward.dynamics.rates import memory, remembered
from rankward.dynamics.reference import ReferenceEngine, Row, slopes_of
from rankward.dynamics.state import BATCH, Entries, Noise, Problem, Progress, Rows, Schedule, Status
from rankward.dynamics.stepping import step, unpacked
from rankward.factorizations.base import Chain, Components, Factorization
from rankward.linalg import one_thread
from rankward.losses import Loss, Squared
from rankward.optimizers import Optimizer
from rankward.parallel import cores

PARTS = 16  # partial sums of a gradient at most; they are added in order
PART_ENTRIES = 64  # in a partial sum at least
PART_NUMBERS = 2**24  # of all partial sums at most


class Point(ABC):
    """The entries at given factors, and their gradients."""

    @abstractmethod
    def predictions(self, places: np.ndarray) -> Tensor:
        """The product's entries at these places of the list, [places]."""

    @abstractmethod
    def gradients(self, places: np.ndarray, slopes: Tensor) -> list[Tensor]:
        """The gradient of the sum of slopes times entries, for each group of factors."""


class Team:
    """Calls of a kernel on several threads.

    Args:
        threads: their number.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def share(self, kernel: Callable[..., None], bounds: np.ndarray, *arguments: object) -> None:
        """Call `kernel(bounds[t], bounds[t + 1], *arguments)` for every t; the calls write to different memory."""
        ends = bounds.tolist()
        if self.pool is None:
            kernel(ends[0], ends[-1], *arguments)
            return
        calls = [self.pool.submit(kernel, *pair, *arguments) for pair in pairwise(ends)]
        for call in calls:
            call.result()

    def even(self, count: int) -> np.ndarray:
        """Bounds of as many equal parts as there are threads."""
        return np.linspace(0, count, self.threads + 1).astype(np.int64)

    def close(self) -> None:
        if self.pool is not None:
            self.pool.shutdown()


class IndexedChain:
    """Entries of W_L ... W_1 = A B, split where the hidden size is least: e_k = A[i_k] . B[:, j_k].

    The slopes are a sparse matrix S, and the gradients of A and B are S B' and S' A.

    Args:
        form: of the factors, at least two.
        entries: observed.
        dtype: of the run.
        team: threads.
    """

    def __init__(self, form: Chain, entries: Entries, dtype: torch.dtype, team: Team) -> None:
        self.groups = [[layer] for layer in range(len(form.sizes) - 1)]
        self.form, self.team = form, team
        name = str(dtype).removeprefix("torch.")
        width = cache.WIDTH[name]
        self.kernels = cache.indexed_kernels("chain", width, name)
        self.rank = min(form.sizes[1:-1])
        self.size = -(-self.rank // width) * width
        self.rows, self.cols = (np.ascontiguousarray(entries.index[:, axis], dtype=np.int64) for axis in (0, 1))
        self.dims = entries.dims
        self.by_column = np.argsort(self.cols, kind="stable")
        self.every = np.arange(len(self.rows))
        self._sorted = self._both_orders(self.every)

    def at(self, weights: Sequence[Tensor]) -> Point:
        return _ChainPoint(self, weights)

    def orders(self, places: np.ndarray) -> tuple[tuple[np.ndarray, ...], ...]:
        """First entries of rows and columns of the sparse matrix of these places, their numbers, and the other indices.

        `places` are in ascending order.
        """
        return self._sorted if places is self.every else self._both_orders(places)

    def _both_orders(self, places: np.ndarray) -> tuple[tuple[np.ndarray, ...], ...]:
        number = np.full(len(self.rows), -1)
        number[places] = np.arange(len(places))
        columns = self.by_column if len(places) == len(self.rows) else self.by_column[number[self.by_column] >= 0]
        made = []
        for chosen, own, other, size in (
            (places, self.rows, self.cols, self.dims[0]),
            (columns, self.cols, self.rows, self.dims[1]),
        ):
            first = np.searchsorted(own[chosen], np.arange(size + 1))
            made.append((first, number[chosen], other[chosen]))
        return tuple(made)


def halves(form: Chain, weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """A and B' of a chain A B that is split where its hidden size is least, [d, rank] and [d', rank].

    Example:
        >>> left, right = halves(Chain((4, 2, 3, 5)), [torch.ones(2, 4), torch.ones(3, 2), torch.ones(5, 3)])
        >>> left.shape, right.shape
        (torch.Size([5, 2]), torch.Size([4, 2]))
    """
    split = 1 + int(np.argmin(form.sizes[1:-1]))
    right, left = weights[0], weights[split]
    for weight in weights[1:split]:
        right = weight @ right
    for weight in weights[split + 1 :]:
        left = weight @ left
    return left, right.T


class _ChainPoint(Point):
    def __init__(self, form: IndexedChain, weights: Sequence[Tensor]) -> None:
        self.form = form
        with torch.enable_grad():
            self.weights = [weight.detach().requires_grad_() for weight in weights]
            self.halves = halves(form.form, self.weights)
        self.left, self.right = (self._padded(half.detach()) for half in self.halves)

    def _padded(self, half: Tensor) -> np.ndarray:
        made = half.new_zeros(len(half), self.form.size)
        made[:, : self.form.rank] = half
        return made.numpy().reshape(-1)

    def predictions(self, places: np.ndarray) -> Tensor:
        form, made = self.form, np.empty(len(places), self.left.dtype)
        given = (places, form.rows, form.cols, self.left, self.right, form.size, made)
        form.team.share(form.kernels.predict, form.team.even(len(places)), *given)
        return torch.from_numpy(made)

    def gradients(self, places: np.ndarray, slopes: Tensor) -> list[Tensor]:
        form, gradients = self.form, []
        for (first, numbers, others), against in zip(form.orders(places), (self.right, self.left), strict=True):
            rows = len(first) - 1
            made = torch.empty(rows, form.size, dtype=slopes.dtype)
            bounds = np.searchsorted(first, form.team.even(len(places)))
            bounds[0], bounds[-1] = 0, rows
            given = (first, numbers, others, slopes.numpy(), against, form.size, made.numpy().reshape(-1))
            form.team.share(form.kernels.gather, bounds, *given)
            gradients.append(made[:, : form.rank])
        return list(torch.autograd.grad(self.halves, self.weights, gradients))


class IndexedComponents:
    """Entries of a sum of outer products (Equation 12): O(order R) for an entry, by products before and behind a mode.

    Factors of one size are a group, one array [modes, size, R].

    Args:
        form: of the factors.
        entries: observed.
        dtype: of the run.
        team: threads.
    """

    def __init__(self, form: Components, entries: Entries, dtype: torch.dtype, team: Team) -> None:
        sizes, self.team, self.components = list(form.dims), team, form.components
        self.groups = [[n for n, size in enumerate(sizes) if size == each] for each in dict.fromkeys(sizes)]
        name = str(dtype).removeprefix("torch.")
        few = 1 if form.components == 1 else 4 if form.components <= 4 else 8
        width = few if form.components <= 8 else cache.WIDTH[name]
        self.kernels = cache.indexed_kernels("components", width, name)
        self.size = -(-form.components // width) * width
        order = [mode for group in self.groups for mode in group]
        starts = np.cumsum([0, *(sizes[mode] for mode in order)])
        self.base, self.total = np.empty(len(sizes), np.int64), int(starts[-1])
        self.base[order] = starts[:-1]
        kind = next(kind for kind in (np.uint8, np.uint16, np.int32) if max(sizes) - 1 <= np.iinfo(kind).max)
        self.index = np.ascontiguousarray(entries.index, dtype=kind)
        self.every = np.arange(len(entries.index))

    def at(self, weights: Sequence[Tensor]) -> Point:
        return _ComponentsPoint(self, weights)


class _ComponentsPoint(Point):
    def __init__(self, form: IndexedComponents, weights: Sequence[Tensor]) -> None:
        self.form, self.shapes = form, [weight.shape for weight in weights]
        made = weights[0].new_zeros(form.total, form.size)
        torch.cat([weight.detach().reshape(-1, form.components) for weight in weights], out=made[:, : form.components])
        self.factors = made.numpy().reshape(-1)

    def predictions(self, places: np.ndarray) -> Tensor:
        form, made = self.form, np.empty(len(places), self.factors.dtype)
        given = (places, form.index, form.base, self.factors, form.size, made)
        form.team.share(form.kernels.predict, form.team.even(len(places)), *given)
        return torch.from_numpy(made)

    def gradients(self, places: np.ndarray, slopes: Tensor) -> list[Tensor]:
        form, numbers = self.form, len(self.factors)
        parts = max(1, min(PARTS, len(places) // PART_ENTRIES, PART_NUMBERS // numbers))
        bounds = np.linspace(0, len(places), parts + 1).astype(np.int64)
        sums = np.zeros((parts, numbers), self.factors.dtype)

        def some(begin: int, end: int) -> None:
            for part in range(begin, end):
                form.kernels.gradients(
                    bounds[part], bounds[part + 1], places, form.index, form.base, self.factors, form.size,
                    slopes.numpy(), sums[part],
                )  # fmt: skip

        form.team.share(some, form.team.even(parts))
        total = sums[0]
        for part in sums[1:]:
            total += part
        rows = torch.from_numpy(total).reshape(form.total, form.size)[:, : form.components]
        split = rows.split([shape[:-1].numel() for shape in self.shapes])
        return [part.reshape(shape) for part, shape in zip(split, self.shapes, strict=True)]


Form = IndexedChain | IndexedComponents


def form_of(form: object, entries: Entries, dtype: torch.dtype, team: Team) -> Form:
    """The observed entries of a factorization of this `form`, a chain or components.

    Raises:
        ValueError: another form of factors, or a chain of one matrix.
    """
    if isinstance(form, Components):
        return IndexedComponents(form, entries, dtype, team)
    if isinstance(form, Chain) and len(form.sizes) > 2:
        return IndexedChain(form, entries, dtype, team)
    raise ValueError("the engine for indexed entries trains chains of two or more matrices, and components")


def entries_at(form: object, entries: Entries) -> Callable[[Sequence[Tensor]], Tensor]:
    """A function from factors [rows, *shape] to the product's listed entries [rows, n], float64, row after row.

    The entries may be in any order. A row has the same bits in any company.
    """
    made = form_of(form, entries, torch.float64, Team(1))

    def predicted(factors: Sequence[Tensor]) -> Tensor:
        with one_thread():
            rows = [
                made.at(_stacked(made, [factor[row].detach().double() for factor in factors])).predictions(made.every)
                for row in range(len(factors[0]))
            ]
        return torch.stack(rows) if rows else torch.zeros(0, entries.count, dtype=torch.float64)

    return predicted


class IndexedEngine(ReferenceEngine):
    """Advance an ensemble whose observations are lists of entries; the rule for steps, stops and rows is the same.

    Args:
        factorization: a chain of at least two matrices, or components.
        schedule: which iterations are checked and recorded.
        threads: None for one thread a core.
    """

    name = "indexed"

    def __init__(self, factorization: Factorization, schedule: Schedule, threads: int | None = None) -> None:
        super().__init__(factorization, schedule)
        self.threads = threads or cores()
        self._forms: dict[tuple[int, torch.dtype], tuple[Entries, Form]] = {}
        self._team = Team(1)

    def advance(self, factors: list[Tensor], problem: Problem, progress: Progress, length: int) -> Rows:
        """Advance every running run by `length` iterations, or to its stop; factors and progress change in place.

        Args:
            factors: [runs, *shape] each, on the CPU.
            length: a multiple of the schedule's stride.
        """
        self._team = Team(self.threads)
        for _, form in self._forms.values():
            form.team = self._team
        try:
            return super().advance(factors, problem, progress, length)
        finally:
            self._team.close()

    def _form(self, entries: Entries, dtype: torch.dtype) -> Form:
        """The form of these entries, which runs with the same observations share."""
        key = id(entries.index), dtype
        if key not in self._forms:
            self._forms[key] = entries, form_of(self.factorization.form, entries, dtype, self._team)
        return self._forms[key][1]

    def _advance_run(
        self, run: int, weights: list[Tensor], problem: Problem, progress: Progress, length: int
    ) -> Iterator[Row]:
        assert problem.entries is not None
        entries, rule, eta = problem.entries[run], problem.steps, problem.eta[run]
        form, values = self._form(entries, eta.dtype), torch.from_numpy(entries.values).to(eta)
        scale, loss_scale = float(problem.loss_scale[run]), problem.loss_scale[run].to(eta)
        optimizer = rule.optimizer.with_numbers(rule.numbers[run].to(eta).unbind())
        update = _update_of(optimizer)
        flat = unpacked(optimizer, [weight.shape for weight in weights], memory(problem, progress)[run].to(eta))
        shared, arrays = flat[: len(optimizer.per_run)], flat[len(optimizer.per_run) :]
        by_name = [arrays[at : at + len(weights)] for at in range(0, len(arrays), len(weights))]
        state = [*shared, *(each for name in by_name for each in _stacked(form, name))]
        moving = _stacked(form, [weight.detach() for weight in weights])
        noise = _RunNoise(problem, run, sum(weight.numel() for weight in weights))
        iteration, limit = int(progress.iteration[run]), int(problem.max_iterations[run])
        end = min(iteration + length, limit)
        checked = int(progress.next_record[run]) > 0  # the chunk before has checked this iteration
        while True:
            point, made = form.at(moving), None
            if not checked and (iteration % self.schedule.stride == 0 or iteration == limit):
                made = point.predictions(form.every)
                value = _total(problem.loss, made, values).item() * scale
                if self._check(run, iteration, value, problem, progress):
                    parts = [part.clone() for part in _parted(form, moving)]
                    yield run, iteration, value, 0.0, parts
                if progress.status[run] != Status.RUNNING or iteration >= end:
                    break
            labels, added, share, chosen = noise.of_step(iteration, values)
            places = form.every if chosen is None else chosen
            made = point.predictions(places) if made is None or chosen is not None else made
            targets = values if chosen is None else values[torch.from_numpy(chosen)]
            slopes = _slopes(problem.loss, made, targets if labels is None else targets + labels)
            slopes = slopes if share is None else slopes * share
            gradients = point.gradients(places, slopes * loss_scale)
            if added is not None:
                split = added.split([weight.numel() for weight in weights])
                parts = [part.reshape(weight.shape) for part, weight in zip(split, weights, strict=True)]
                gradients = [g + part for g, part in zip(gradients, _stacked(form, parts), strict=True)]
            iteration += 1
            square = eta  # not used
            if optimizer.uses_square:
                square = torch.stack([(gradient * gradient).sum() for gradient in gradients]).sum()
            count = torch.full_like(eta, iteration)
            moving, state = step(optimizer, moving, gradients, square, state, eta, count, update=update)
            checked = False
        progress.iteration[run] = iteration
        with torch.no_grad():
            for weight, part in zip(weights, _parted(form, moving), strict=True):
                weight.copy_(part)
        if state:
            count_run, groups = len(optimizer.per_run), len(form.groups)
            kept = list(state[:count_run])
            for at in range(count_run, len(state), groups):
                kept += _parted(form, state[at : at + groups])
            progress.put(torch.tensor([run]), remembered(problem, parameters_to_vector(kept)[None]))


class _RunNoise:
    """The random parts of one run's steps: numbers of `noise.py`, counted by the place of an entry in the list."""

    def __init__(self, problem: Problem, run: int, parameters: int) -> None:
        rule, one = problem.rule, slice(run, run + 1)
        self.noise = None if rule is None else rule.noise
        if rule is None or self.noise is None:
            return
        assert problem.entries is not None
        self.parameters = parameters
        self.deviations = rule.numbers[one, len(rule.optimizer.numbers) :]
        fields = [getattr(self.noise, name)[one] for name in ("keys", "batch", "observed")]
        self.noise = Noise(self.noise.kinds, *fields)
        self.normal = Noise(tuple(kind for kind in self.noise.kinds if kind != BATCH), *fields)
        self.all = torch.ones(1, problem.entries[run].count, dtype=torch.bool)
        self.epoch, self.order = -1, np.zeros(0, np.int64)

    def of_step(
        self, iteration: int, values: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, np.ndarray | None]:
        """Noise of labels at the places of the minibatch, of gradients, the weight of a minibatch, and its places."""
        noise = self.noise
        if noise is None:
            return None, None, None, None
        made = drawn(self.normal, torch.tensor([iteration]), self.parameters, self.all)
        labels, added, _ = scaled(self.normal, made, self.deviations, values[None])
        labels, added = (None if each is None else each[0] for each in (labels, added))
        if BATCH not in noise.kinds:
            return labels, added, None, None
        steps, size, count = int(noise.steps_an_epoch), int(noise.batch), int(noise.observed)
        if iteration // steps != self.epoch:
            self.epoch = iteration // steps
            self.order = ranks(noise.keys, torch.tensor([self.epoch]), self.all)[0].argsort().numpy()
        begin = iteration % steps * size
        places = np.sort(self.order[begin : min(begin + size, count)])
        share = torch.tensor(count / len(places), dtype=torch.float64).to(values)
        labels = None if labels is None else labels[torch.from_numpy(places)]
        return labels, added, share, places


def _total(loss: Loss, predictions: Tensor, values: Tensor) -> Tensor:
    """The sum of a loss over the entries; of the squared one Equation 1's half sum."""
    if type(loss) is Squared:
        residual = predictions - values
        return 0.5 * (residual * residual).sum()
    return loss.value(predictions, values).sum()


def _slopes(loss: Loss, predictions: Tensor, values: Tensor) -> Tensor:
    """The derivative of each entry's loss."""
    return predictions - values if type(loss) is Squared else slopes_of(loss, predictions, values)[1]


def _stacked(form: Form, parts: Sequence[Tensor]) -> list[Tensor]:
    """An array for each group of factors: [modes, *shape] of several, [*shape] of one."""
    return [
        parts[group[0]] if len(group) == 1 else torch.stack([parts[number] for number in group])
        for group in form.groups
    ]


def _parted(form: Form, stacked: Sequence[Tensor]) -> list[Tensor]:
    """The inverse of `_stacked`."""
    parts: dict[int, Tensor] = {}
    for group, array in zip(form.groups, stacked, strict=True):
        parts |= {group[0]: array} if len(group) == 1 else dict(zip(group, array.unbind(0), strict=True))
    return [parts[number] for number in sorted(parts)]


def _update_of(optimizer: Optimizer) -> Callable[..., tuple[Tensor, dict[str, Tensor]]]:
    """An optimizer's `update` of a group of factors, of all at once where there are several."""

    def update(
        parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], eta: Tensor, iteration: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if parameter.ndim == 2:
            return optimizer.update(parameter, gradient, state, eta, iteration)  # type: ignore[return-value]
        dims = {name: 0 if name in optimizer.per_parameter else None for name in state}
        of_each = torch.func.vmap(optimizer.update, in_dims=(0, 0, dims, None, None))
        moved, after = of_each(parameter, gradient, state, eta, iteration)
        return moved, {name: each if name in optimizer.per_parameter else each[0] for name, each in after.items()}

    return update
