"""Propositions 1 to 4, each tried out: what was computed, and whether it came out as the paper says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.integrate import solve_ivp
from scipy.stats import binomtest

from rankward.factorizations.initialisation import Balanced, Between, Gaussian, Initialisation, Orthogonal, signs
from rankward.random import generator
from rankward.theory.solution_set import SolutionSet

PS = (0.25, 0.5, 1, 2, 3, np.inf)
DRAWS = 1_000_000
CONFIDENCE = 0.99
ALPHAS = (1.0, 0.3, 1e-1, 1e-2, 1e-3)


@dataclass(frozen=True)
class Finding:
    """A statement tried out."""

    statement: str
    tried: str
    found: str
    holds: bool


def proposition_1(ps: Sequence[float] = PS, tolerance: float = 1e-6) -> list[Finding]:
    """Schatten norms along Equation 7's set: least at W_11 = 0, in a certified interval, and growing with |W_11|."""
    paper = SolutionSet.of_equation_6()
    grid = np.concatenate([[0.0], np.geomspace(1e-3, 1e6, 2000)])
    findings = []
    for p in ps:
        least = paper.least_norm(p, tolerance)
        there = float(paper.schatten_norm(np.zeros(1), p)[0])
        growing = [bool((np.diff(paper.schatten_norm(sign * grid, p)) >= 0).all()) for sign in (1, -1)]
        findings.append(
            Finding(
                "Proposition 1",
                f"Schatten-{p:g} along S",
                f"infimum in [{least.lower:.7g}, {least.upper:.7g}], {there:.7g} at W_11 = 0, growing with |W_11|",
                least.lower <= there <= least.upper + tolerance * max(1, there) and all(growing),
            )
        )
    return findings


def proposition_2() -> list[Finding]:
    """Effective rank and distance from the infimal rank along Equation 7's set: greatest at 0, falling to 1 and 0."""
    paper = SolutionSet.of_equation_6()
    grid = np.concatenate([[0.0], np.geomspace(1e-3, 1e6, 2000)])
    findings = []
    for name, measure, first, limit in (
        ("effective rank", paper.effective_rank, 2.0, 1.0),
        ("distance from the infimal rank", paper.distance_to_infimal_rank, 1.0, 0.0),
    ):
        values = [measure(sign * grid) for sign in (1, -1)]
        falling = all((np.diff(each) <= 1e-15).all() for each in values)
        ends = max(float(each[-1]) for each in values) - limit
        findings.append(
            Finding(
                "Proposition 2",
                f"{name} along S, infimal rank {paper.infimal_rank}",
                f"{values[0][0]:.7g} at W_11 = 0, falling to {limit:g} + {ends:.1e} at |W_11| = 1e6",
                falling and abs(values[0][0] - first) < 1e-12 and 0 <= ends < 1e-4 and paper.infimal_rank == 1,
            )
        )
    return findings


def proposition_3(draws: int = DRAWS, depth: int = 3, size: int = 2, seed: int = 0) -> list[Finding]:
    """The sign of the initial product's determinant over many draws, with an exact binomial interval around it."""
    kinds: dict[str, Initialisation] = {
        "gaussian": Gaussian(1.0),
        "balanced": Balanced(1.0),
        "between": Between(1.0, 0.5),
        "orthogonal": Orthogonal(1.0),
    }
    findings = []
    for name, init in kinds.items():
        positive, interval = sign_frequency(init, (size,) * (depth + 1), draws, seed)
        findings.append(
            Finding(
                "Proposition 3",
                f"init={name}, depth {depth}, {size}x{size}, {draws:,} draws",
                f"positive {positive / draws:.5f}, {CONFIDENCE:.0%} interval [{interval[0]:.5f}, {interval[1]:.5f}]",
                interval[0] <= 0.5 <= interval[1],
            )
        )
    return findings


def sign_frequency(
    init: Initialisation, sizes: tuple[int, ...], draws: int, seed: int = 0, confidence: float = CONFIDENCE
) -> tuple[int, tuple[float, float]]:
    """How many of so many initial products have a positive determinant, and an exact (Clopper-Pearson) interval.

    Args:
        sizes: d_0, d_1, ..., d_L, with d_0 = d_L.

    Example:
        >>> positive, (low, high) = sign_frequency(Gaussian(1.0), (2, 2, 2), draws=1000)
        >>> low < 0.5 < high
        True
    """
    random = generator(seed, "signs of determinants")
    positive, block = 0, 100_000
    for start in range(0, draws, block):
        factors = init.factors(sizes, random, (min(block, draws - start),))
        positive += int((signs(factors) > 0).sum())
    interval = binomtest(positive, draws).proportion_ci(confidence, method="exact")
    return positive, (float(interval.low), float(interval.high))


def proposition_4(alphas: Sequence[float] = ALPHAS, stop_loss: float = 1e-10) -> list[Finding]:
    """Depth 2 from alpha times the identity, by flow: the loss falls to `stop_loss`, the determinant stays positive."""
    findings = []
    for alpha in alphas:
        time, entry, loss, log_determinant = symmetric_flow(alpha, stop_loss)
        findings.append(
            Finding(
                "Proposition 4",
                f"depth 2 from {alpha:g} I, flow",
                f"loss {loss:.3g} at time {time:.3g}, W_11 {entry:.6g}, determinant exp({log_determinant:.4g}) > 0",
                loss <= stop_loss * (1 + 1e-6) and np.isfinite(log_determinant) and entry > 0,
            )
        )
    return findings


def symmetric_flow(alpha: float, stop_loss: float) -> tuple[float, float, float, float]:
    """Time, W_11, loss and the determinant's logarithm where the flow of depth 2 from alpha I comes below a loss.

    From there the product W stays symmetric, and follows W' = -(W G + G W), with G the loss's gradient (Lemma 4 of the
    paper's appendix for a balanced depth 2), so that (ln det W)' = -2 tr G = -2 W_22. The determinant falls like
    exp(-W_11^2 / 2), which no W in floating point keeps: its logarithm is integrated. The other variables are w = W_22,
    as its logarithm, and r = e + w^2, where e = W_12 - 1: in them nothing cancels. Then
    W_11 = (det W + W_12^2) / w,  w' = -2 (r + e^2),  r' = -((1 + e)^2 r + e det W) / w - 3 w e^2 - 4 w r.
    The time grows like W_11^3 / 6, over which only an implicit method takes long steps.

    Raises:
        ArithmeticError: the integration did not get there.

    Example:
        >>> time, entry, loss, log_determinant = symmetric_flow(0.1, 1e-4)
        >>> round(entry, 3), round(entry**3 / 6 / time, 2)
        (70.697, 1.0)
    """

    def unpacked(state: np.ndarray) -> tuple[float, float, float, float]:
        rest, w, determinant = state[0], float(np.exp(state[1])), float(np.exp(state[2]))
        return float(rest), rest - w * w, w, determinant

    def slope(_: float, state: np.ndarray) -> np.ndarray:
        r, e, w, determinant = unpacked(state)
        moved = -((1 + e) ** 2 * r + e * determinant) / w - 3 * w * e * e - 4 * w * r
        return np.array([moved, -2 * (r + e * e) / w, -2 * w])

    def jacobian(_: float, state: np.ndarray) -> np.ndarray:
        r, e, w, determinant = unpacked(state)
        by_r = (2 * (1 + e) * r + (1 + e) ** 2 + determinant) / w + 6 * w * e + 4 * w
        by_log_w = -4 * w * (1 + e) * r - ((1 + e) ** 2 * r + e * determinant) / w - 2 * w * determinant
        by_log_w += 3 * w * e * e - 12 * w**3 * e + 4 * w * r
        return -np.array(
            [
                [by_r, by_log_w, e * determinant / w],
                [2 * (1 + 2 * e) / w, -8 * w * e - 2 * (r + e * e) / w, 0],
                [0, 2 * w, 0],
            ]
        )

    def below(_: float, state: np.ndarray) -> float:
        _r, e, w, _determinant = unpacked(state)
        return float(np.log(e * e + w * w / 2) - np.log(stop_loss))

    below.terminal = True  # type: ignore[attr-defined]
    start = np.array([alpha * alpha - 1, np.log(alpha), 2 * np.log(alpha)])
    tolerances = {"rtol": 1e-10, "atol": [1e-40, 1e-12, 1e-9]}
    made = solve_ivp(slope, (0, 1e30), start, method="Radau", jac=jacobian, events=below, **tolerances)
    if not len(made.t_events[0]):
        raise ArithmeticError(f"the flow from {alpha} I did not reach a loss of {stop_loss}: {made.message}")
    end = made.y_events[0][0]
    _r, e, w, determinant = unpacked(end)
    return float(made.t_events[0][0]), float((determinant + (1 + e) ** 2) / w), float(e * e + w * w / 2), float(end[2])


def everything(draws: int = DRAWS) -> list[Finding]:
    """All four."""
    return [*proposition_1(), *proposition_2(), *proposition_3(draws), *proposition_4()]


def told(findings: Sequence[Finding]) -> str:
    """A line for each."""
    return "\n".join(
        f"{'holds   ' if finding.holds else 'VIOLATED'}  {finding.statement}  {finding.tried}: {finding.found}"
        for finding in findings
    )
