"""The compiled engine: any factorization that can be traced, eight or sixteen runs to a register where they fit."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

from rankward.dynamics.layouts import layout_of
from rankward.dynamics.rates import MEMORY, rates_of
from rankward.dynamics.state import Problem, Progress, Rows, Schedule
from rankward.factorizations.base import Factorization
from rankward.parallel import cores, side_by_side

ROWS_BYTES = 128 * 2**20  # of recorded factors a chunk; a run whose share is full goes on in the next chunk


class FusedEngine:
    """Advances an ensemble in compiled code; the same bits for any company, thread count and chunk length.

    Args:
        factorization: of which the factors are.
        schedule: which iterations are looked at and recorded.
        threads: None for one a core.
    """

    name, note = "fused", ""

    def __init__(self, factorization: Factorization, schedule: Schedule, threads: int | None = None) -> None:
        self.factorization = factorization
        self.schedule = schedule
        self.threads = threads or cores()
        self._room: tuple[np.ndarray, ...] | None = None

    def advance(self, factors: list[Tensor], problem: Problem, progress: Progress, length: int) -> Rows:
        """Advance every running run by `length` iterations, or to its stop; factors and progress change in place.

        Args:
            factors: [runs, *shape] each, on the CPU.
            length: a multiple of the schedule's stride.

        Raises:
            Untraceable: a factorization that cannot be compiled.
        """
        operator, values = problem.operator.shape[1:], problem.values.shape[1:]
        layout = layout_of(self.factorization, operator, values, problem.eta.numpy().dtype.name)
        running = progress.running.numpy()
        flat = layout.packed([factor.detach().numpy() for factor in factors])
        runs, parameters = len(running), flat.shape[1]
        threads = max(1, min(self.threads, runs))
        drive, sizes = layout.kernel(-(-runs // threads), problem.dynamics)

        capacity = self.schedule.rows(length, ROWS_BYTES // max(1, runs * flat[0].nbytes))
        rows_iteration, rows_loss, rows_time, rows_factors = self._rows(runs, capacity, parameters, flat.dtype)
        rows_count = np.zeros(runs, np.int64)
        rates, memory = _rates(problem, progress, layout.parameters)
        arguments = (
            np.zeros(1, np.int64), running, sizes, flat,
            layout.entries(problem.operator.numpy()), layout.entries(problem.values.numpy()),
            rates, problem.loss_scale.numpy(), problem.stop_loss.numpy(), self.schedule.stop_checks,
            problem.max_iterations.numpy(), progress.iteration.numpy(), progress.status.numpy(),
            progress.below.numpy(), progress.next_record.numpy(), progress.lowest_loss.numpy(),
            length, self.schedule.stride, self.schedule.every, self.schedule.iteration_ratio, self.schedule.loss_ratio,
            rows_iteration, rows_loss, rows_time, rows_factors, rows_count,
        )  # fmt: skip
        with _one_blas_thread(layout.uses_blas):
            side_by_side(threads, drive, *arguments)
        with torch.no_grad():
            for factor, advanced in zip(factors, layout.unpacked(flat), strict=True):
                factor.copy_(torch.from_numpy(advanced))
        for column, name in enumerate(memory, start=rates.shape[1] - len(memory)):
            getattr(progress, name).copy_(torch.from_numpy(rates[:, column]))
        kept = np.arange(capacity) < rows_count[:, None]
        return Rows(
            torch.from_numpy(np.repeat(running, rows_count)),
            torch.from_numpy(rows_iteration[kept]),
            torch.from_numpy(rows_loss[kept]),
            torch.from_numpy(rows_time[kept]),
            [torch.from_numpy(rows) for rows in layout.unpacked(rows_factors[kept])],
        )

    def _rows(self, runs: int, capacity: int, parameters: int, dtype: np.dtype) -> tuple[np.ndarray, ...]:
        """Room for rows, kept from chunk to chunk: touching fresh memory takes longer than filling it."""
        shape = (runs, capacity, parameters)
        if self._room is None or self._room[-1].shape != shape or self._room[-1].dtype != dtype:
            made = np.empty(shape[:2], np.int64), np.empty(shape[:2]), np.empty(shape[:2]), np.empty(shape, dtype)
            self._room = made
        return self._room


def _rates(problem: Problem, progress: Progress, parameters: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """[runs, columns] in the runs' dtype: what a step needs, then the progress that it changes; and the names of that.

    Descent: see `rates_of`. Flow: scale, rtol, atol, the half sum to stop at, time to stop at,
    parameters.
    """
    if problem.flow is not None:
        scale = problem.loss_scale.numpy()
        flow, memory = problem.flow, ("time", "step", "error", "closing")
        stop, count = problem.stop_loss.numpy() / scale, np.full(problem.runs, float(parameters))
        columns = [scale, flow.rtol.numpy(), flow.atol.numpy(), stop, flow.max_time.numpy(), count]
        columns += [getattr(progress, name).numpy() for name in memory]
        return np.stack(columns, axis=1), memory
    return rates_of(problem, progress, torch.device("cpu")).numpy(), MEMORY


def _one_blas_thread(needed: bool) -> AbstractContextManager[object]:
    """BLAS on one thread each, where it is used: its bits depend on how many share a product."""
    if not needed:
        return nullcontext()
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits
