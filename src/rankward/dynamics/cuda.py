"""The compiled engine on a GPU: small factorizations, one run a thread, with the bits of the processor."""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rankward.config import ConfigError
from rankward.dynamics.kernels import cuda_text
from rankward.dynamics.layouts import GraphLayout, Layout, layout_of
from rankward.dynamics.rates import MEMORY, rates_of
from rankward.dynamics.state import COUNTS, ROWS_BYTES, Problem, Progress, Rows, Schedule
from rankward.factorizations.base import Factorization

FEW = 2**14  # runs, of which a warp each is spread over a card's processors


class CudaEngine:
    """Advances an ensemble in a kernel; one launch a chunk, and nothing read back before its end.

    Args:
        factorization: one that is written out as scalar text (form `unrolled`).
        schedule: which iterations are looked at and recorded.

    Raises:
        ConfigError: numba-cuda is not installed.
    """

    name, note = "cuda", ""

    def __init__(self, factorization: Factorization, schedule: Schedule) -> None:
        self.factorization, self.schedule = factorization, schedule
        check_installed()

    @staticmethod
    def serves(layout: Layout | None, dynamics: str) -> bool:
        """Whether there is a kernel for it."""
        return isinstance(layout, GraphLayout) and layout.form == "unrolled" and dynamics != "flow"

    def advance(self, factors: list[Tensor], problem: Problem, progress: Progress, length: int) -> Rows:
        """Advance every running run by `length` iterations, or to its stop; factors and progress change in place.

        Args:
            factors: [runs, *shape] each, on a CUDA device; or on the processor, in the simulator of numba-cuda.
            length: a multiple of the schedule's stride.
        """
        cuda: Any = importlib.import_module("numba.cuda")
        place = factors[0].device
        running = progress.running.to(place)
        flat = torch.cat([factor.detach().flatten(1) for factor in factors], dim=1)[running]
        fixed = [each.to(place).flatten(1)[running] for each in (problem.operator, problem.values)]
        rates = rates_of(problem, progress, place)[running]
        state = torch.cat([flat, *fixed, rates], dim=1).T.contiguous()
        counts, losses = self._tables(problem, progress, place, running)
        runs, parameters = len(running), flat.shape[1]
        capacity = self.schedule.rows(length, ROWS_BYTES // (runs * flat[0].nbytes))
        rows_iteration = torch.empty((capacity, runs), dtype=torch.int64, device=place)
        rows_loss = torch.empty((capacity, runs), dtype=torch.float64, device=place)
        rows_factors = torch.empty((capacity, parameters, runs), dtype=flat.dtype, device=place)
        loss = torch.empty((1, runs), dtype=flat.dtype, device=place)

        dtype = str(flat.dtype).removeprefix("torch.")
        layout = layout_of(self.factorization, problem.operator.shape[1:], problem.values.shape[1:], dtype)
        assert isinstance(layout, GraphLayout)
        drive = cuda_text.module(layout.graph, layout.name, problem.dynamics).drive
        arrays = [state, loss, counts, losses, rows_iteration, rows_loss, rows_factors]
        schedule = self.schedule
        block = min(runs, 32 if runs < FEW else 128)
        on_card = place.type == "cuda"
        with cuda.gpus[place.index or 0] if on_card else contextlib.nullcontext(), cuda_text.strict():
            drive[-(-runs // block), block](
                *(cuda.as_cuda_array(each) if on_card else each.numpy() for each in arrays),
                length, schedule.stride, schedule.every, schedule.iteration_ratio, schedule.loss_ratio,
                schedule.stop_checks,
            )  # fmt: skip

        flat = state[:parameters].T
        ends = np.cumsum([factor[0].numel() for factor in factors]).tolist()
        with torch.no_grad():
            for factor, end in zip(factors, ends, strict=True):
                factor[running] = flat[:, end - factor[0].numel() : end].reshape(-1, *factor.shape[1:])
        advanced = {
            **dict(zip(COUNTS, counts, strict=False)),
            "lowest_loss": losses[0],
            **dict(zip(MEMORY, state[-2:], strict=True)),
        }
        progress.put(running, advanced)
        kept = torch.arange(capacity, device=place) < counts[-1][:, None]
        chosen = rows_factors.permute(2, 0, 1)[kept]
        return Rows(
            running.repeat_interleave(counts[-1]).cpu(),
            rows_iteration.T[kept].cpu(),
            rows_loss.T[kept].cpu(),
            torch.zeros(len(chosen), dtype=torch.float64),
            [
                chosen[:, end - factor[0].numel() : end].reshape(-1, *factor.shape[1:])
                for factor, end in zip(factors, ends, strict=True)
            ],
        )

    @staticmethod
    def _tables(problem: Problem, progress: Progress, place: torch.device, running: Tensor) -> tuple[Tensor, Tensor]:
        """What the kernel keeps of each run in whole numbers, and of losses."""
        whole = [*(getattr(progress, name) for name in COUNTS), problem.max_iterations]
        real = [progress.lowest_loss, problem.stop_loss, problem.loss_scale]
        counts = torch.stack([each.to(place, torch.int64) for each in whole])[:, running]
        losses = torch.stack([each.to(place, torch.float64) for each in real])[:, running]
        return torch.cat([counts, torch.zeros_like(counts[:1])]), losses.contiguous()


def check_installed() -> None:
    """Refuse a GPU's kernel where its compiler is missing.

    Raises:
        ConfigError: what to install.
    """
    try:
        importlib.import_module("numba_cuda")
    except ImportError:
        raise ConfigError(
            "trainer", "gpu", "cpu, or engine=batched: the kernel needs numba-cuda (pip install 'rankward[gpu]')"
        ) from None
