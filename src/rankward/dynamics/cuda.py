"""The compiled engine on a GPU: small factorizations, one run a thread, with the bits of the processor."""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rankward.config.extras import require
from rankward.dynamics.kernels import cuda_text
from rankward.dynamics.kernels.flow import FLOWS
from rankward.dynamics.layouts import GraphLayout, Layout, layout_of
from rankward.dynamics.rates import after_steps, rates_of
from rankward.dynamics.state import COUNTS, LOSSES, ROWS_BYTES, Problem, Progress, Rows, Schedule, to_host
from rankward.factorizations.base import Factorization

WARP_BLOCK_RUNS = 2**14  # with fewer runs a block is one warp, which spreads the runs over all multiprocessors


class CudaEngine:
    """Advance an ensemble in one kernel launch a chunk; nothing is read back before its end.

    Args:
        factorization: one that is written out as scalar text (form `unrolled`).
        schedule: which iterations are checked and recorded.

    Raises:
        MissingPackage: numba-cuda is not installed.
    """

    name, note = "cuda", ""

    def __init__(self, factorization: Factorization, schedule: Schedule) -> None:
        self.factorization, self.schedule = factorization, schedule
        check_installed()

    @staticmethod
    def serves(layout: Layout | None, dynamics: str) -> bool:
        """Whether the engine has a kernel for this layout."""
        small = isinstance(layout, GraphLayout) and layout.form == "unrolled" and not layout.graph.noise
        return small and dynamics not in FLOWS

    def advance(self, factors: list[Tensor], problem: Problem, progress: Progress, length: int) -> Rows:
        """Advance every running run by `length` iterations, or to its stop; factors and progress change in place.

        Args:
            factors: [runs, *shape] each, on a CUDA device; or on the processor, in the simulator of numba-cuda.
            length: a multiple of the schedule's stride.
        """
        cuda: Any = importlib.import_module("numba.cuda")
        device = factors[0].device
        running = progress.running.to(device)
        flat = torch.cat([factor.detach().flatten(1) for factor in factors], dim=1)[running]
        fixed = [each.to(device).flatten(1)[running] for each in (problem.operator, problem.values)]
        rates = rates_of(problem, progress, device)[running]
        state = torch.cat([flat, *fixed, rates], dim=1).T.contiguous()
        counts, losses = self._tables(problem, progress, device, running)
        runs, parameters = len(running), flat.shape[1]
        capacity = self.schedule.rows(length, ROWS_BYTES // (runs * flat[0].nbytes))
        rows_iteration = torch.empty((capacity, runs), dtype=torch.int64, device=device)
        rows_loss = torch.empty((capacity, runs), dtype=torch.float64, device=device)
        rows_factors = torch.empty((capacity, parameters, runs), dtype=flat.dtype, device=device)
        loss = torch.empty((1, runs), dtype=flat.dtype, device=device)

        dtype = str(flat.dtype).removeprefix("torch.")
        operator, values = problem.operator.shape[1:], problem.values.shape[1:]
        layout = layout_of(self.factorization, operator, values, dtype, problem.rule, problem.loss)
        assert isinstance(layout, GraphLayout)
        drive = cuda_text.module(layout.graph, layout.name, problem.dynamics).drive
        arrays = [state, loss, counts, losses, rows_iteration, rows_loss, rows_factors]
        schedule = self.schedule
        block = min(runs, 32 if runs < WARP_BLOCK_RUNS else 128)
        on_gpu = device.type == "cuda"
        with cuda.gpus[device.index or 0] if on_gpu else contextlib.nullcontext(), cuda_text.strict():
            drive[-(-runs // block), block](
                *(cuda.as_cuda_array(each) if on_gpu else each.numpy() for each in arrays),
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
            **dict(zip(LOSSES, losses, strict=False)),
            **after_steps(problem, state[-rates.shape[1] :].T),
        }
        progress.put(running, advanced)
        recorded = torch.arange(capacity, device=device) < counts[-1][:, None]
        chosen = rows_factors.permute(2, 0, 1)[recorded]
        return Rows(
            to_host(running.repeat_interleave(counts[-1])),
            to_host(rows_iteration.T[recorded]),
            to_host(rows_loss.T[recorded]),
            torch.zeros(len(chosen), dtype=torch.float64),
            [
                chosen[:, end - factor[0].numel() : end].reshape(-1, *factor.shape[1:])
                for factor, end in zip(factors, ends, strict=True)
            ],
        )

    @staticmethod
    def _tables(problem: Problem, progress: Progress, device: torch.device, running: Tensor) -> tuple[Tensor, Tensor]:
        """The kernel's tables of integers and of losses of each run."""
        plateaus = problem.plateaus
        integers = [*(getattr(progress, name) for name in COUNTS), problem.max_iterations, plateaus.window]
        losses_and_scales = [getattr(progress, name) for name in LOSSES]
        losses_and_scales += [problem.stop_loss, problem.loss_scale, plateaus.tolerance]
        counts = torch.stack([each.to(device, torch.int64) for each in integers])[:, running]
        losses = torch.stack([each.to(device, torch.float64) for each in losses_and_scales])[:, running]
        return torch.cat([counts, torch.zeros_like(counts[:1])]), losses.contiguous()


def check_installed() -> None:
    """Raise if the compiler of GPU kernels is not installed.

    Raises:
        MissingPackage: what to install.
    """
    require("gpu", "the compiled kernel of trainer=gpu (engine=batched has none)")
