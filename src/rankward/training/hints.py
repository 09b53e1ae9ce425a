"""Hints: notes on why gradient descent diverged, or stalled until `max_iterations` or a plateau.

They are computed for ended runs that have a folder. A small run takes about a millisecond, which is too much for the
thousands of runs of a table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from rankward.dynamics import Problem, Progress, Status
from rankward.dynamics.reference import loss
from rankward.dynamics.sharpness import at_edge, least_sharpness, sharpness
from rankward.factorizations.base import Spectral
from rankward.losses import Squared
from rankward.training.ensemble import Ensemble

HINTS = ("diverged", "stalled")  # names of these notes
MAX_PARAMETERS = 2**14  # of a run whose sharpness a hint may compute: 0.1 s on one core
LOGARITHM_OF_ZERO = -100.0  # of a singular value that has no other way to become so small below depth 2
STALLED = 0.5  # a run has stalled if as much, or more, of the loss half way is left at the end


def hint(
    ensemble: Ensemble, run: int, factors: list[Tensor], progress: Progress, trace: Mapping[str, np.ndarray]
) -> dict[str, str]:
    """A note `diverged` or `stalled` about a run, or nothing.

    `diverged` compares the step size with 2 over the sharpness at the start, and with 2 over the least sharpness of
    any solution, which grows with the size of the observations. `stalled` is for a run that ended at `max_iterations`
    or at a plateau with an almost constant loss, and either a step size too large for any solution or a sharpness
    within 2 % of 2 over the step size; a run that is merely slow has a lower one. A number that is not known is not
    mentioned, for example if the factorization cannot be differentiated twice. The sharpness is computed for runs of at
    most 16,384 parameters with a mask or sensing matrices, once a run.

    Optimizers other than gradient descent without weight decay have none: their edge is not 2 over the sharpness.

    Args:
        ensemble: of the run, with the initial factors.
        run: its index.
        factors: final factors, [runs, *shape] each.
        progress: of the ensemble, at the end.
        trace: rows of the run.
    """
    problem, status = ensemble.problem, Status(int(progress.status[run]))
    if not trace or status not in (Status.DIVERGED, Status.MAX_ITERATIONS, Status.PLATEAU):
        return {}
    if status == Status.DIVERGED:
        if not np.isfinite(trace["loss"][0]):
            return {"diverged": f"the loss at the start is {trace['loss'][0]}: init.scale or the data are too large"}
        if (at_zero := _singular_value_at_zero(ensemble, factors, run)) is not None:
            return {"diverged": at_zero}
        why = "" if problem.flow is not None or problem.rule is not None else _why_it_diverged(ensemble, run)
        return {"diverged": why} if why else {}
    half = trace["loss"][np.searchsorted(trace["iteration"], trace["iteration"][-1] / 2)]
    if problem.flow is not None or problem.rule is not None or trace["loss"][-1] < STALLED * half:
        return {}
    if why := _no_solution_is_stable(ensemble, run):
        return {"stalled": f"stalled: {why}"}
    step = _step_at_the_end(problem, progress, run)
    sharp = _sharpness(ensemble, run, factors)
    if not at_edge(sharp, 2 / step):
        return {}
    return {
        "stalled": f"stalled at the edge of stability: the sharpness at the end, {sharp:.5g}, is about 2/step size = "
        f"{2 / step:.5g}, and in the second half of the iterations the loss went from {half:.3g} to "
        f"{trace['loss'][-1]:.3g}; a smaller lr.eta moves that edge"
    }


def _singular_value_at_zero(ensemble: Ensemble, factors: Sequence[Tensor], run: int) -> str | None:
    """A note on a singular value that a flow in singular coordinates has taken to zero."""
    form = ensemble.factorization.form
    if not isinstance(form, Spectral) or form.depth >= 2 or not float(factors[1][run].min()) < LOGARITHM_OF_ZERO:
        return None
    return (
        f"a singular value reaches zero, as balanced flow of depth {form.depth:g} can in finite time; "
        "lr.coordinates=singular has its logarithm, and ends there"
    )


def _why_it_diverged(ensemble: Ensemble, run: int) -> str:
    problem, parts = ensemble.problem, [why] if (why := _no_solution_is_stable(ensemble, run)) else []
    fixed = problem.adaptive is None
    step = float(problem.eta[run]) if fixed else first_adaptive_step(ensemble, run)
    subject = f"the step size {step:.3g}" if fixed else f"the first step size, {step:.3g},"
    sharp = _sharpness(ensemble, run, ensemble.factors)
    if step * sharp > 2:
        parts.append(f"{subject} exceeds 2/sharpness = {2 / sharp:.3g} at the start")
    elif fixed and not parts and np.isfinite(sharp) and type(problem.loss) is Squared:  # below it the loss falls
        parts.append(
            f"the sharpness at the start, {sharp:.3g}, is below 2/step size = {2 / step:.3g}, and has passed it later: "
            "lower lr.eta"
        )
    return "; ".join(parts)


def _no_solution_is_stable(ensemble: Ensemble, run: int) -> str:
    """A sentence, if the step size is too large for every solution; else empty.

    It is empty for an adaptive step, which changes, for sensing, and for other losses than the squared one.
    """
    problem = ensemble.problem
    if problem.adaptive is not None or not problem.is_mask or type(problem.loss) is not Squared:
        return ""
    values = problem.values[run] if problem.entries is None else torch.from_numpy(problem.entries[run].values)
    step, largest = float(problem.eta[run]), float(values.abs().max())
    least = least_sharpness(ensemble.factorization.form, largest, float(problem.loss_scale[run]))
    if not step * least > 2:
        return ""
    return (
        f"the step size {step:.3g} exceeds {2 / least:.3g}, above which no solution is stable: "
        f"an observation of size {largest:.3g} makes their sharpness {least:.3g} or more"
    )


def _sharpness(ensemble: Ensemble, run: int, factors: list[Tensor]) -> float:
    one, problem = slice(run, run + 1), ensemble.problem
    if problem.entries is not None or sum(factor[0].numel() for factor in factors) > MAX_PARAMETERS:
        return float("nan")
    return _or_nan(
        lambda: sharpness(
            ensemble.factorization.product,
            [factor[one] for factor in factors],
            problem.operator[one],
            problem.values[one],
            problem.loss_scale[one],
            problem.loss,
        ).item()
    )


def first_adaptive_step(ensemble: Ensemble, run: int) -> float:
    """The first adaptive step size: the mean of squared gradients is the first gradient's square."""
    problem, adaptive = ensemble.problem, ensemble.problem.adaptive
    assert adaptive is not None
    if problem.entries is not None:
        return float("nan")

    def step() -> float:
        start = [factor[run].double().requires_grad_() for factor in ensemble.factors]
        value = loss(
            ensemble.factorization.product(start),
            problem.operator[run].double(),
            problem.values[run].double(),
            problem.loss,
        )
        gradients = torch.autograd.grad(value * problem.loss_scale[run], start)
        size = float(torch.cat([gradient.reshape(-1) for gradient in gradients]).norm())
        return float(problem.eta[run]) / (size + float(adaptive.eps[run]))

    return _or_nan(step)


def _step_at_the_end(problem: Problem, progress: Progress, run: int) -> float:
    eta = float(problem.eta[run])
    if problem.adaptive is None:
        return eta
    mean = progress.mean_square[run].double() / progress.weight[run].double()  # NaN if no step was made
    return eta / (float(mean.sqrt()) + float(problem.adaptive.eps[run]))


def _or_nan(compute: Callable[[], float]) -> float:
    """The number, or NaN if a user's factorization raises: a hint must not cost a run its results."""
    try:
        return compute()
    except Exception:
        return float("nan")
