"""The compiled engine: chains of matrices and entry masks, eight or sixteen runs to a register, a queue behind them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

from rankward.dynamics.state import Problem, Progress, Rows, Schedule, flatten, unflatten

LANES_WIDEST = 55  # beyond, eight runs' factors and products leave a megabyte of cache
ROWS_BYTES = 128 * 2**20  # of recorded factors a chunk; a run whose share is full goes on in the next chunk


class FusedEngine:
    """Advances an ensemble in compiled code; the same bits for any company, thread count and chunk length.

    Args:
        chain: d_0, d_1, ..., d_L of the matrices.
        schedule: which iterations are looked at and recorded.
        threads: None for one a core.
    """

    name = "fused"

    def __init__(self, chain: Sequence[int], schedule: Schedule, threads: int | None = None) -> None:
        self.chain = tuple(chain)
        self.schedule = schedule
        self.threads = threads or _cores()
        self._room: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self.shapes = [(above, below) for below, above in zip(self.chain, self.chain[1:], strict=False)]

    def advance(self, factors: list[Tensor], problem: Problem, progress: Progress, length: int) -> Rows:
        """Advance every running run by `length` iterations, or to its stop; factors and progress change in place.

        Args:
            factors: [runs, d_l, d_(l-1)] each, on the CPU.
            length: a multiple of the schedule's stride.
        """
        from rankward.dynamics.kernels import store

        running = progress.running.numpy()
        flat = flatten([factor.detach() for factor in factors]).numpy()
        runs, parameters = len(running), flat.shape[1]
        threads = max(1, min(self.threads, runs))
        # The same bits either way: a register of runs when there are enough of them and their work fits in cache.
        widest = max(self.chain)
        alone = -(-runs // threads) <= max(1, widest // 10) or widest > LANES_WIDEST
        family = store.family(self.chain)
        drive = store.kernel(self.chain, flat.dtype.name, alone and family == "strict")

        capacity = max(1, min(length // self.schedule.stride + 2, 1024, ROWS_BYTES // max(1, runs * flat[0].nbytes)))
        rows_iteration, rows_loss, rows_factors = self._rows(runs, capacity, parameters, flat.dtype)
        rows_count = np.zeros(runs, np.int64)
        entries = int(np.prod(problem.values.shape[1:]))
        arguments = (
            np.zeros(1, np.int64), running, np.array(self.chain), flat,
            problem.operator.reshape(-1, entries).numpy(), problem.values.reshape(-1, entries).numpy(),
            problem.eta.numpy(), problem.stop_loss.numpy(), problem.max_iterations.numpy(),
            progress.iteration.numpy(), progress.status.numpy(), progress.next_record.numpy(),
            progress.lowest_loss.numpy(), length, self.schedule.stride, self.schedule.every,
            self.schedule.iteration_ratio, self.schedule.loss_ratio,
            rows_iteration, rows_loss, rows_factors, rows_count,
        )  # fmt: skip
        with _one_blas_thread(family == "blas"):
            if threads == 1:
                drive(*arguments)
            else:
                with ThreadPoolExecutor(threads) as pool:
                    for done in [pool.submit(drive, *arguments) for _ in range(threads)]:
                        done.result()
        with torch.no_grad():
            for factor, advanced in zip(factors, unflatten(torch.from_numpy(flat), self.shapes), strict=True):
                factor.copy_(advanced)
        kept = np.arange(capacity) < rows_count[:, None]
        return Rows(
            torch.from_numpy(np.repeat(running, rows_count)),
            torch.from_numpy(rows_iteration[kept]),
            torch.from_numpy(rows_loss[kept]),
            unflatten(torch.from_numpy(rows_factors[kept]), self.shapes),
        )

    def _rows(self, runs: int, capacity: int, parameters: int, dtype: np.dtype) -> tuple[np.ndarray, ...]:
        """Room for rows, kept from chunk to chunk: touching fresh memory takes longer than filling it."""
        shape = (runs, capacity, parameters)
        if self._room is None or self._room[2].shape != shape or self._room[2].dtype != dtype:
            self._room = (np.empty(shape[:2], np.int64), np.empty(shape[:2]), np.empty(shape, dtype))
        return self._room


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _one_blas_thread(needed: bool) -> AbstractContextManager[object]:
    """BLAS on one thread each, where it is used: its bits depend on how many share a product."""
    if not needed:
        return nullcontext()
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits
