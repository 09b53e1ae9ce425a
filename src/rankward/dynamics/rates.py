"""The numbers that a step needs besides the gradient, in the order of the engines' arrays."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rankward.dynamics.kernels.blocked import padded
from rankward.dynamics.kernels.words import NOISE_FIELDS, NOISE_WORDS
from rankward.dynamics.state import BATCH, GRADIENTS, Problem, Progress


def rates_of(problem: Problem, progress: Progress, device: torch.device) -> Tensor:
    """[runs, columns] in the runs' dtype: constants of a step, then what steps change.

    These are eta, scale, the optimizer's numbers, the iteration, and its state.
    """
    eta, numbers = problem.eta, problem.steps.numbers
    single = [eta, problem.loss_scale, numbers, progress.iteration, memory(problem, progress)]
    return torch.cat([each.reshape(problem.runs, -1).to(device, eta.dtype) for each in single], dim=1)


def memory(problem: Problem, progress: Progress) -> Tensor:
    """The optimizer's state, [runs, numbers] float64; an adaptive rate has two fields of `Progress` for it."""
    if problem.rule is not None:
        assert progress.state is not None
        return progress.state
    fields = [getattr(progress, name) for name in problem.steps.optimizer.per_run]
    return torch.stack(fields, dim=1) if fields else torch.zeros(problem.runs, 0, dtype=torch.float64)


def remembered(problem: Problem, state: Tensor) -> dict[str, Tensor]:
    """The inverse of `memory`: fields of `Progress` by name."""
    if problem.rule is not None:
        return {"state": state}
    return dict(zip(problem.steps.optimizer.per_run, state.unbind(1), strict=True))


def after_steps(problem: Problem, rates: Tensor) -> dict[str, Tensor]:
    """Fields of `Progress` that steps have changed, from columns as `rates_of` makes them."""
    return remembered(problem, rates[:, 3 + problem.steps.numbers.shape[1] :])


def noise_fields(kinds: Sequence[str], entries: int) -> int:
    """The number of columns of `noise_columns` behind the random parts.

    Example:
        >>> noise_fields(("labels",), 9), noise_fields(("labels", "batch"), 9)
        (6, 32)
    """
    return len(NOISE_FIELDS) + len(NOISE_WORDS) + padded(entries) if BATCH in kinds else 6


def noise_columns(problem: Problem, progress: Progress, parameters: int) -> Tensor:
    """[runs, columns] behind those of `rates_of`: the random parts of a step, then the fields of `_noise_source.py`.

    The kernel fills the former, and counts from the iteration at which the chunk begins. Whole numbers are in two
    fields of 16 bits, which float32 holds. Ranks are -1 for entries that are not observed, and 0 until the kernel has
    put them in order.
    """
    rule, dtype = problem.rule, problem.eta.dtype
    if rule is None or (noise := rule.noise) is None:
        return torch.zeros(problem.runs, 0, dtype=dtype)
    observed, step = problem.observed, progress.iteration
    entries = observed.shape[1]
    drawn = sum(padded({GRADIENTS: parameters}.get(kind, entries)) for kind in noise.kinds)
    fields = {"KEY": noise.keys[:, 0], "OTHER_KEY": noise.keys[:, 1], "STEP": step}
    if BATCH in noise.kinds:
        steps = noise.steps_an_epoch
        fields |= {"EPOCH": step // steps, "POSITION": step % steps, "STALE": torch.ones_like(step)}
        fields |= {"SIZE": noise.batch, "OBSERVED": noise.observed, "STEPS": steps}
    columns = [torch.zeros(problem.runs, drawn, dtype=dtype)]
    for name in NOISE_FIELDS if BATCH in noise.kinds else NOISE_FIELDS[: len(fields)]:
        whole = fields.get(name, torch.zeros_like(step))
        parts = [whole & 0xFFFF, (whole >> 16) & 0xFFFF] if name in NOISE_WORDS else [whole]
        columns += [part[:, None].to(dtype) for part in parts]
    if BATCH in noise.kinds:
        ranks = torch.where(observed, 0.0, -1.0)
        columns.append(torch.nn.functional.pad(ranks, (0, padded(entries) - entries), value=-1.0).to(dtype))
    made = torch.cat(columns, dim=1)
    assert made.shape[1] == drawn + noise_fields(noise.kinds, entries)  # where the kernel's scratch begins
    return made
