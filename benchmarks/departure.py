"""Compute the numbers of docs/departure.md that its sweep does not contain.

python -m benchmarks.departure            all, about five minutes on one core
python -m benchmarks.departure digits     depth 2: descent in 60 digits beside float64 and float32
python -m benchmarks.departure flows      depths 2 to 6: implicit flows down to a loss of 1e-12
python -m benchmarks.departure flows FOLDER     and how well the law of that sweep predicts them
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import torch
from scipy.integrate import solve_ivp

from benchmarks.sixty_digits import descend, descend_balanced, exact
from rankward.dynamics import Flow, FusedEngine, Problem, Progress, Schedule
from rankward.factorizations import MatrixFactorization
from rankward.factorizations.initialisation import Balanced, Between, signs
from rankward.figures import departure as figure
from rankward.theory.departure import predicted_exponent
from rankward.theory.regression import KNOWN_SHARE

STOP = 1e-4
FIGURE_1 = ((6e-3, 1e-5), (3e-3, 1e-6))  # its learning rates and scales of depth 2
RATES = (6e-3, 1.5e-3, 3.75e-4)
MASK, VALUES = [[0, 1], [1, 1]], [[0, 1], [1, 0]]
DEEPEST = 1e-12  # loss at which an implicit flow ends
WITHIN = (
    (3, 0.1, (1e-2, 1e-4, 1e-6, 1e-8, 1e-10)),
    (3, 0.01, (1e-2, 1e-4, 1e-6, 1e-8, 1e-10)),
    (4, 0.1, (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)),
    (4, 0.01, (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)),
    (5, 0.1, (1e-1, 1e-2, 1e-3, 1e-4)),
    (6, 0.1, (1e-1, 1e-2, 1e-3)),
)  # depth, unbalance, scales
AHEAD = {3: (1e-6, 1e-8), 4: (1e-4, 1e-6)}


def trained(
    starts: list[list[torch.Tensor]], eta: float = 0.0, dtype: str = "float64", rtol: float | None = None
) -> np.ndarray:
    """|W_11| at the end of descents, or of flows with that rtol; NaN for runs that do not converge."""
    runs, kind = len(starts), getattr(torch, dtype)

    def full(value: float, dtype: torch.dtype = torch.float64) -> torch.Tensor:
        return torch.full((runs,), value, dtype=dtype)

    factors = [torch.stack(layer).to(kind) for layer in zip(*starts, strict=True)]
    mask, values = (torch.tensor(x, dtype=kind).repeat(runs, 1, 1) for x in (MASK, VALUES))
    flow = None if rtol is None else Flow(full(rtol), full(1e-3 * rtol), full(torch.inf))
    problem = Problem(
        mask, values, full(eta, kind), full(STOP), torch.full((runs,), 20_000_000), full(1.0), flow=flow
    )  # fmt: skip
    engine = FusedEngine(MatrixFactorization((2, 2), 2), Schedule(stride=1 if flow else 50))
    progress = Progress.start(runs)
    while len(progress.running):
        engine.advance(factors, problem, progress, 1_000_000)
    entry = torch.matmul(factors[1], factors[0])[:, 0, 0].abs().double().numpy()
    return np.where(progress.status.numpy() == 1, entry, np.nan)


def turn(start: list[torch.Tensor], eta: float, dtype: str) -> tuple[int, float, int]:
    """The iteration at which a descent's determinant first changes sign, |W_11| there, and the number of changes."""
    kind = getattr(torch, dtype)
    factors = [layer.to(kind)[None].clone() for layer in start]  # the engine changes them in place
    mask, values = (torch.tensor([x], dtype=kind) for x in (MASK, VALUES))
    one = torch.ones(1, dtype=torch.float64)
    problem = Problem(mask, values, torch.tensor([eta], dtype=kind), STOP * one, torch.tensor([10**6]), one)
    engine, progress = FusedEngine(MatrixFactorization((2, 2), 2), Schedule(stride=1, every=1)), Progress.start(1)
    iterations, entries, sign = [], [], []
    while len(progress.running):
        rows = engine.advance(factors, problem, progress, 1000)
        iterations.append(rows.iteration.numpy())
        lower, upper = (f.double().numpy() for f in rows.factors)
        entries.append(np.abs((upper @ lower)[:, 0, 0]))
        sign.append(signs([lower, upper]))
    iteration, entry, positive = np.concatenate(iterations), np.concatenate(entries), np.concatenate(sign) > 0
    turns = np.flatnonzero(np.diff(positive)) + 1
    return int(iteration[turns[0]]), float(entry[turns[0]]), len(turns)


def digits() -> None:
    """Print where descent from balanced starts ends at depth 2, and what determines it."""
    print("Figure 1's depth 2 (b), seed 0: iteration at which the sign turns, |W_11| there, |W_11| at the end")
    for eta, scale in FIGURE_1:
        start = Balanced(scale, "positive").draw((2, 2, 2), 0)
        end = descend([exact(layer.numpy()) for layer in start], eta, STOP)
        assert end.turned_at is not None
        print(f"  lr {eta:g}: 60 digits {end.turned}, {abs(end.turned_at):.4f}, {abs(end.entry):.7f}")
        for dtype in ("float64", "float32"):
            at, entry, count = turn(start, eta, dtype)
            (last,) = trained([start], eta, dtype)
            print(f"    {dtype} {at}, {entry:.4f} ({count} turns), {last:.7f}")
        product = exact((start[1] @ start[0]).numpy())
        end, _ = descend_balanced(product, eta, 3e-3)
        where = f"|W_11| {abs(end.entry):.4f} at loss {end.loss:.3g}"
        print(f"    layers balanced after each step: turned {end.turned}; {where}")
        plain = descend([exact(layer.numpy()) for layer in start], eta, 3e-3)
        print(f"    as it is: |W_11| {abs(plain.entry):.4f} at loss {plain.loss:.3g}")

    starts = [Balanced(1e-4, "positive").draw((2, 2, 2), seed) for seed in range(20)]
    print("Twenty starts of scale 1e-4: median of |W_11| at the end; 60 digits, float64, largest difference, float32")
    for eta in RATES:
        ends = [descend([exact(layer.numpy()) for layer in start], eta, STOP) for start in starts]
        sixty = np.array([abs(end.entry) for end in ends])
        turns = np.array([abs(end.turned_at or math.nan) for end in ends])
        double, single = trained(starts, eta), trained(starts, eta, "float32")
        print(
            f"  lr {eta:g}: {np.median(sixty):.3f}, {np.median(double):.3f}, {np.abs(sixty - double).max():.1e}, "
            f"{np.nanmedian(single):.2f} ({np.isnan(single).sum()} stand still); "
            f"the sign turns at |W_11| {turns.min():.2f} to {turns.max():.2f}, median {np.median(turns):.2f}",
            flush=True,
        )
    print("The same starts, flow at rtol 1e-4, 1e-8, 1e-12, 1e-14: median of |W_11| at the end")
    print("  " + ", ".join(f"{np.nanmedian(trained(starts, rtol=rtol)):.1f}" for rtol in (1e-4, 1e-8, 1e-12, 1e-14)))

    print("ln det W + W_11^2 / 2 + 3 ln |W_11| at |W_11| = 4, 8, 12, layers balanced after each step (lr 2e-3)")
    for scale in (1.0, 1e-2, 1e-4):
        for seed in (0, 1):
            (single_layer,) = Balanced(scale, "positive").draw((2, 2), seed)
            _, marks = descend_balanced(exact(single_layer.numpy()), 2e-3, 3.4e-3)
            found = {round(x): value + x * x / 2 + 3 * math.log(x) for x, value in marks}
            (x, last) = next(mark for mark in marks if round(mark[0]) == 12)
            ratio = math.exp(last / 2 - math.log(x + 2 / x))  # sigma_1 is x + 2 / x to 1e-3
            sums = ", ".join(f"{found[x]:.2f}" for x in (4, 8, 12))
            print(
                f"  scale {scale:g}, seed {seed}: {sums}; a factor's sigma_2 / sigma_1 at 12: {ratio:.1e}", flush=True
            )


def slope_of(
    depth: int,
) -> tuple[Callable[[float, np.ndarray], list[float]], Callable[[np.ndarray], tuple[float, float, float]]]:
    """The right side of Equation 4 on Equation 6 for factors in one vector, and a function that measures the state."""
    eye: Sequence[float] = [1.0, 0.0, 0.0, 1.0]

    def times(x: Sequence[float], y: Sequence[float]) -> tuple[float, ...]:
        return (
            x[0] * y[0] + x[1] * y[2],
            x[0] * y[1] + x[1] * y[3],
            x[2] * y[0] + x[3] * y[2],
            x[2] * y[1] + x[3] * y[3],
        )

    def slope(_: float, state: np.ndarray) -> list[float]:
        layers = state.reshape(depth, 4).tolist()
        below = [eye]
        for layer in layers:
            below.append(times(layer, below[-1]))
        product = below[-1]
        # The residual, which is multiplied by each transposed layer below.
        above: Sequence[float] = (0.0, product[1] - 1, product[2] - 1, product[3])
        found: list[tuple[float, ...]] = []
        for index in range(depth - 1, -1, -1):
            b, layer = below[index], layers[index]
            found.append(times(above, (b[0], b[2], b[1], b[3])))
            above = times((layer[0], layer[2], layer[1], layer[3]), above)
        return [-value for gradient in reversed(found) for value in gradient]

    def read(state: np.ndarray) -> tuple[float, float, float]:
        """Determinant (the product of the factors'), loss and |W_11|."""
        product, determinant = eye, 1.0
        for layer in state.reshape(depth, 4).tolist():
            product = times(layer, product)
            determinant *= layer[0] * layer[3] - layer[1] * layer[2]
        loss = 0.5 * ((product[1] - 1) ** 2 + (product[2] - 1) ** 2 + product[3] ** 2)
        return determinant, loss, abs(product[0])

    return slope, read


def implicit(depth: int, scale: float, unbalance: float, seed: int, rtol: float = 1e-9) -> tuple[float, float, float]:
    """A start's unbalancedness, and loss and |W_11| at the first change of sign by SciPy's LSODA; NaN without one."""
    start = [layer.numpy() for layer in Between(scale, unbalance, "positive").draw((2,) * (depth + 1), seed)]
    gaps = [above.T @ above - below @ below.T for below, above in pairwise(start)]
    unbalancedness = max(float(np.linalg.norm(gap, 2)) for gap in gaps)
    slope, read = slope_of(depth)

    def turns(_: float, state: np.ndarray) -> float:
        return read(state)[0]

    def ends(_: float, state: np.ndarray) -> float:
        return read(state)[1] - DEEPEST

    for event in (turns, ends):
        setattr(event, "terminal", True)  # noqa: B010 - an attribute that SciPy reads from a plain function
    flow = solve_ivp(
        slope, (0, 1e40), np.stack(start).ravel(), method="LSODA", rtol=rtol, atol=1e-14, events=[turns, ends]
    )  # fmt: skip
    if flow.status < 0:
        raise RuntimeError(f"depth {depth}, scale {scale:g}, seed {seed}: {flow.message}")
    if not len(flow.t_events[0]):
        return unbalancedness, math.nan, math.nan
    return unbalancedness, *read(flow.y[:, -1])[1:]


def flows(sweep: Path | None) -> None:
    """Print the exponent from one scale to the next for the same starts at smaller and smaller scales."""
    print("Slope of ln loss against ln unbalancedness from one scale to the next, within a start: median [quartiles]")
    for depth, unbalance, scales in WITHIN:
        found = np.array([[implicit(depth, s, unbalance, seed) for s in scales] for seed in range(5000, 5030)])
        early = ~(found[:, :, 1] < 0.5).all(1)
        c, loss = np.log(found[~early, :, 0]), np.log(found[~early, :, 1])
        middle = np.percentile(np.diff(loss) / np.diff(c), (50, 25, 75), axis=0).T
        print(
            f"  depth {depth}, unbalance {unbalance:g}, scales {', '.join(f'{s:g}' for s in scales)}: "
            + "; ".join(f"{m:.3f} [{low:.3f}, {high:.3f}]" for m, low, high in middle)
            + f"; predicted {predicted_exponent(depth):.3f}; losses down to {math.exp(loss.min()):.1e}; "
            f"{early.sum()} of {len(found)} starts turn above a loss of 1/2, and are left out",
            flush=True,
        )
    print("Depth 2, scale 1: where the sign turns, if the start is less and less unbalanced; median of thirty starts")
    for unbalance in (1e-2, 1e-4, 1e-6, 1e-8, 1e-10):
        found = np.array([implicit(2, 1.0, unbalance, seed) for seed in range(5000, 5030)])
        c, x = np.log(found[:, 0]), found[:, 2]
        rest = np.median(x * x / 2 + 4 * np.log(x) + c)
        print(
            f"  unbalance {unbalance:g}: |W_11| {np.median(x):.2f}, loss {np.median(found[:, 1]):.2g}; "
            f"W_11^2 / 2 + 4 ln |W_11| + ln unbalancedness: {rest:.2f}",
            flush=True,
        )
    if sweep is not None:
        ahead(sweep)


def ahead(sweep: Path) -> None:
    """Print the losses of new starts at smaller scales over those that the law of a sweep predicts."""
    print("New starts at scales that the sweep does not have: median loss over what is predicted for it")
    print("  from the sweep's fitted line, and from its smallest scale with the predicted slope")
    for depth, share, part in figure.parts(figure.curves(sweep)):
        fitted = figure.law(part, "turning") if share is not None and figure.by_the_sign(part) else None
        if fitted is None or share is None:
            continue
        known = part.filter(pl.col("turning").is_not_null().mean().over("scale") >= KNOWN_SHARE)
        last = known.filter(pl.col("scale") == pl.col("scale").min())
        # A run that has not turned turns at a smaller loss than any other: at 0.
        x_0 = math.log(np.median(last["unbalancedness"].drop_nulls().to_numpy()))
        y_0 = math.log(np.median(last["turning"].fill_null(0.0).to_numpy()))
        for scale in AHEAD[int(depth)]:
            found = np.array([implicit(int(depth), scale, share, seed) for seed in range(6000, 6050)])
            x, y = np.log(np.median(found[:, 0])), np.log(np.median(found[:, 1]))
            line = y - fitted.intercept - fitted.slope * x
            power = y - y_0 - predicted_exponent(depth) * (x - x_0)
            print(
                f"  depth {depth:g}, unbalance {share:g}, scale {scale:g} (the sweep's smallest: "
                f"{last['scale'][0]:g}): {math.exp(line):.2f}, {math.exp(power):.2f}",
                flush=True,
            )


if __name__ == "__main__":
    wanted = sys.argv[1] if len(sys.argv) > 1 else "all"
    if wanted in ("all", "digits"):
        digits()
    if wanted in ("all", "flows"):
        flows(Path(sys.argv[2]) if len(sys.argv) > 2 else None)
