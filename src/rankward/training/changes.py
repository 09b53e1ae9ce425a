"""Observed values that change once during a run: the values of each part, and what happens in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from rankward.dynamics import Plateau, Problem, Progress, Schedule, Status
from rankward.observations import EntryMask, Measurement


@dataclass(frozen=True)
class Changes:
    """The values that runs observe first, and the iterations after which they observe those of the problem.

    A step from an iteration below `until` uses the first values. For the engines the first part is a run that ends at
    `until`, where it leaves a row; then it goes on as another one. Only divergence ends a run in its first part.

    Args:
        until: a multiple of the schedule's stride; 0 for a run that only has the second part.
        values: in the runs' dtype, zero where nothing is observed.
    """

    until: Int[Tensor, " runs"]
    values: Float[Tensor, "runs *dims"]

    @classmethod
    def of(cls, measurements: Sequence[Measurement], dtype: torch.dtype) -> Changes | None:
        """Those of runs whose observations all have a first part; None if none has."""
        first = [(m.mask, m.first) for m in measurements if isinstance(m, EntryMask) and m.first is not None]
        if not first:
            return None
        values = np.stack([np.where(mask, part.values, 0.0) for mask, part in first])
        return cls(torch.tensor([part.until for _, part in first]), torch.from_numpy(values).to(dtype))

    def problem(self, problem: Problem, iteration: Int[Tensor, " runs"]) -> Problem:
        """The problem of the part that each run is in."""
        early = iteration.cpu() < self.until
        if not early.any():
            return problem
        device, plateau = problem.values.device, problem.plateau
        chosen = early.reshape(-1, *(1 for _ in problem.values.shape[1:])).to(device)
        return replace(
            problem,
            values=torch.where(chosen, self.values.to(device), problem.values),
            stop_loss=torch.where(early, -torch.inf, problem.stop_loss),
            max_iterations=torch.where(early, self.until, problem.max_iterations),
            plateau=plateau and Plateau(torch.where(early, 0, plateau.window), plateau.tolerance),
        )

    def begin_second_parts(self, progress: Progress, before: Int[Tensor, " runs"], schedule: Schedule) -> None:
        """Let runs whose first part has ended go on, without a memory of the first part's losses.

        Factors and the optimizer's state stay. The next row follows at the next check, or with `schedule.every` at its
        next multiple.

        Args:
            progress: of the runs, after a chunk; changed in place.
            before: the iteration of each run before the chunk.
        """
        ended = (before.cpu() < self.until) & (progress.status.cpu() == Status.MAX_ITERATIONS)
        runs = torch.nonzero(ended).flatten()
        start, step = Progress.start(len(runs)), schedule.every or schedule.stride
        fresh = {name: getattr(start, name) for name in ("status", "below", "lowest_loss", "marked", "marked_loss")}
        progress.put(runs, {**fresh, "next_record": (self.until[runs] // step + 1) * step})

    def part(self, run: Int[Tensor, " rows"], iteration: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        """The part, 1 or 2, whose values the loss of each row compares with."""
        until = self.until[run.cpu()]
        return torch.where((iteration.cpu() <= until) & (until > 0), 1.0, 2.0).double()
