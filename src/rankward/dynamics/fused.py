"""The compiled engine: any factorization that can be traced, with eight or sixteen runs in a register if they fit."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

from rankward.dynamics.layouts import layout_of
from rankward.dynamics.rates import after_steps, noise_columns, rates_of
from rankward.dynamics.state import Problem, Progress, Rows, Schedule
from rankward.factorizations.base import Factorization
from rankward.parallel import cores, side_by_side

ROWS_BYTES = 128 * 2**20  # recorded factors in a chunk; a run with a full share continues in the next chunk


class FusedEngine:
    """Advance an ensemble in compiled code, with the same bits for any other runs, thread count and chunk length.

    Args:
        factorization: what is trained.
        schedule: which iterations are checked and recorded.
        threads: None for one thread a core.
    """

    name, note = "fused", ""

    def __init__(self, factorization: Factorization, schedule: Schedule, threads: int | None = None) -> None:
        self.factorization = factorization
        self.schedule = schedule
        self.threads = threads or cores()
        self._buffers: tuple[np.ndarray, ...] | None = None

    def advance(self, factors: list[Tensor], problem: Problem, progress: Progress, length: int) -> Rows:
        """Advance every running run by `length` iterations, or to its stop; factors and progress change in place.

        Args:
            factors: [runs, *shape] each, on the CPU.
            length: a multiple of the schedule's stride.

        Raises:
            Untraceable: the factorization cannot be compiled.
        """
        operator, values = problem.operator.shape[1:], problem.values.shape[1:]
        dtype = problem.eta.numpy().dtype.name
        layout = layout_of(self.factorization, operator, values, dtype, problem.rule, problem.loss)
        running = progress.running.numpy()
        flat = layout.packed([factor.detach().numpy() for factor in factors])
        runs, parameters = len(running), flat.shape[1]
        threads = max(1, min(self.threads, runs))
        drive, sizes = layout.kernel(-(-runs // threads), problem.dynamics)

        capacity = self.schedule.rows(length, ROWS_BYTES // max(1, runs * flat[0].nbytes))
        rows_iteration, rows_loss, rows_time, rows_factors = self._rows(runs, capacity, parameters, flat.dtype)
        rows_count = np.zeros(runs, np.int64)
        own, plateaus = _rates(problem, progress, layout.parameters), problem.plateaus
        rates = np.concatenate([own, noise_columns(problem, progress, layout.parameters).numpy()], axis=1)
        arguments = (
            np.zeros(1, np.int64), running, sizes, flat,
            layout.entries(problem.operator.numpy()), layout.entries(problem.values.numpy()),
            rates, problem.loss_scale.numpy(), problem.stop_loss.numpy(), self.schedule.stop_checks,
            problem.max_iterations.numpy(), plateaus.window.numpy(), plateaus.tolerance.numpy(),
            progress.iteration.numpy(), progress.status.numpy(), progress.below.numpy(), progress.next_record.numpy(),
            progress.lowest_loss.numpy(), progress.marked.numpy(), progress.marked_loss.numpy(),
            length, self.schedule.stride, self.schedule.every, self.schedule.iteration_ratio, self.schedule.loss_ratio,
            rows_iteration, rows_loss, rows_time, rows_factors, rows_count,
        )  # fmt: skip
        with _one_blas_thread(layout.uses_blas):
            side_by_side(threads, drive, *arguments)
        with torch.no_grad():
            for factor, advanced in zip(factors, layout.unpacked(flat), strict=True):
                factor.copy_(torch.from_numpy(advanced))
        for name, values_after in _remembered(problem, torch.from_numpy(rates[:, : own.shape[1]])).items():
            getattr(progress, name).copy_(values_after)
        recorded = np.arange(capacity) < rows_count[:, None]
        return Rows(
            torch.from_numpy(np.repeat(running, rows_count)),
            torch.from_numpy(rows_iteration[recorded]),
            torch.from_numpy(rows_loss[recorded]),
            torch.from_numpy(rows_time[recorded]),
            [torch.from_numpy(rows) for rows in layout.unpacked(rows_factors[recorded])],
        )

    def _rows(self, runs: int, capacity: int, parameters: int, dtype: np.dtype) -> tuple[np.ndarray, ...]:
        """Buffers for rows, reused from chunk to chunk: the first touch of new memory takes longer than filling it."""
        shape = (runs, capacity, parameters)
        if self._buffers is None or self._buffers[-1].shape != shape or self._buffers[-1].dtype != dtype:
            made = np.empty(shape[:2], np.int64), np.empty(shape[:2]), np.empty(shape[:2]), np.empty(shape, dtype)
            self._buffers = made
        return self._buffers


FLOW_MEMORY = ("time", "step", "error", "closing")  # fields of `Progress` in the last columns, which a flow changes


def _rates(problem: Problem, progress: Progress, parameters: int) -> np.ndarray:
    """[runs, columns] in the runs' dtype: constants of a step, then fields of `Progress` that it changes.

    Descent: see `rates_of`. Flow: scale, rtol, atol, the half sum to stop at, time to stop at,
    parameters, weight decay relative to the scale.
    """
    if problem.flow is not None:
        scale, flow = problem.loss_scale.numpy(), problem.flow
        stop, count = problem.stop_loss.numpy() / scale, np.full(problem.runs, float(parameters))
        columns = [scale, flow.rtol.numpy(), flow.atol.numpy(), stop, flow.max_time.numpy(), count]
        columns += [np.zeros(problem.runs) if flow.decay is None else flow.decay.numpy() / scale]
        columns += [getattr(progress, name).numpy() for name in FLOW_MEMORY]
        return np.stack(columns, axis=1)
    return rates_of(problem, progress, torch.device("cpu")).numpy()


def _remembered(problem: Problem, rates: Tensor) -> dict[str, Tensor]:
    """Fields of `Progress` that a chunk has changed, from the columns of `_rates`."""
    if problem.flow is not None:
        return dict(zip(FLOW_MEMORY, rates[:, -len(FLOW_MEMORY) :].unbind(1), strict=True))
    return after_steps(problem, rates)


def _one_blas_thread(needed: bool) -> AbstractContextManager[object]:
    """Limit BLAS to one thread if it is used, since its bits depend on the number of threads."""
    if not needed:
        return nullcontext()
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits
