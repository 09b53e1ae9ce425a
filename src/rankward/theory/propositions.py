"""Propositions 1 to 4, each tried out: what was computed, and whether it came out as the paper says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.integrate import solve_ivp
from scipy.stats import binomtest

from rankward.factorizations.initialisation import Balanced, Between, Gaussian, Initialisation, Orthogonal, signs
from rankward.observations import two_by_two
from rankward.seeding import generator
from rankward.theory.norms import (
    Confined,
    FormsNorm,
    MatrixNorm,
    SchattenNorm,
    confine,
    entrywise,
    induced,
    ky_fan,
    weighted_frobenius,
)
from rankward.theory.solution_set import SolutionSet

PS = (0.25, 0.5, 1, 2, 3, np.inf)
DRAWS = 1_000_000
FALSE_ALARM = 1e-4  # probability that any of Proposition 3's intervals misses a fair sign
ALPHAS = (1.0, 0.3, 1e-1, 1e-2, 1e-3)
GRID = np.geomspace(1e-3, 1e6, 2000)  # of |W_11| along the solution set
ROUNDING = 1e-12
EPSILON = 0.1  # of Proposition 1's minimizers
PERTURBED = (-2.0, 0.5, 0.1)  # b_12, b_21, b_22 of Figure 5
RESOLVED, ASYMPTOTIC = (
    3.5,
    20.0,
)  # |W_11| at which float64 resolves the determinant; from which its law is meant to hold


@dataclass(frozen=True)
class Finding:
    """A statement tried out."""

    statement: str
    tried: str
    found: str
    holds: bool


def proposition_1(ps: Sequence[float] = PS) -> list[Finding]:
    """Norms along Equation 7's set: solutions within `EPSILON` of the least norm have W_11 in a certified interval.

    A Schatten norm must also be least at W_11 = 0, and grow strictly with |W_11| on a grid. The other norms are tried
    on Equation 6 and on a perturbation of it. "Every norm" cannot be tried out: the proof is that a norm of a solution
    is at least |W_11| times that of e_1 e_1^T, less a constant.
    """
    paper = SolutionSet.of_equation_6()
    findings = []
    for p in ps:
        zero = float(paper.schatten_norm(np.zeros(1), p)[0])
        right, left = (paper.schatten_norm(sign * np.append(0.0, GRID), p) for sign in (1, -1))
        growing = bool((np.diff(right) > 0).all() and (np.diff(left) > 0).all())
        confined, found, holds = _confined(SchattenNorm(p), paper)
        certain = confined is not None and confined.least.lower <= zero <= confined.least.upper + ROUNDING * zero
        findings.append(
            Finding(
                "Proposition 1",
                f"Schatten-{p:g} along S",
                f"{found}; {zero:.7g} at W_11 = 0, growing strictly with |W_11| at {2 * len(GRID)} points",
                holds and certain and growing,
            )
        )
    seen = two_by_two(*PERTURBED)
    lines = {"S": paper, "S with b = (-2, 0.5, 0.1)": SolutionSet(seen.mask, seen.values)}
    for norm in other_norms():
        for name, line in lines.items():
            _, found, holds = _confined(norm, line)
            findings.append(Finding("Proposition 1", f"{norm.name} along {name}", found, holds))
    return findings


def other_norms(seed: int = 0) -> list[MatrixNorm]:
    """Norms and quasi-norms of 2×2 matrices that are not Schatten's; weights and forms are drawn."""
    random = generator(seed, "norms of matrices")
    weights = random.uniform(0.5, 2.0, (2, 2))
    left, right = random.standard_normal((2, 2, 2))
    forms = random.standard_normal((12, 2, 2))
    return [
        entrywise(1),
        entrywise(3),
        entrywise(np.inf),
        entrywise(1, weights),
        weighted_frobenius(left, right),
        induced(1),
        induced(np.inf),
        ky_fan(np.array([2.0, 1.0])),
        FormsNorm("largest of 12 random |forms|", forms, np.inf),
        entrywise(0.5),
        entrywise(0.3, weights),
        FormsNorm("0.5-quasi-norm of 12 random forms", forms, 0.5),
    ]


def _confined(norm: MatrixNorm, line: SolutionSet) -> tuple[Confined | None, str, bool]:
    """The interval of `EPSILON`-minimizers, in words, and whether values on a grid over twice the proof's bound fit.

    They fit if none is below the infimum, all within `EPSILON` of it are in the interval, each is at least what the
    proof says, and the (weakened) triangle inequality holds for solutions two steps of the grid apart.
    """
    try:
        found = confine(norm, line, EPSILON)
    except ValueError as error:
        return None, str(error), False
    least, q = found.least, norm.power
    entries = np.linspace(-2 * found.bound, 2 * found.bound, 4001)
    values = norm.values(line.at(entries))
    unit = float(norm.values(line.at(np.array([1.0])) - line.at(np.array([0.0])))[0])
    powers = values**q
    near = entries[values <= least.lower + EPSILON]
    fits = (
        (values >= least.lower).all()
        and ((found.left <= near) & (near <= found.right)).all()
        and (np.abs(entries * unit) ** q <= (powers + powers[2000]) * (1 + ROUNDING)).all()
        and (2**q * powers[1:-1] <= (powers[:-2] + powers[2:]) * (1 + ROUNDING)).all()
    )
    text = (
        f"infimum in [{least.lower:.7g}, {least.upper:.7g}], {found.rule}; within {EPSILON:g} of it only W_11 in "
        f"[{found.left:.4g}, {found.right:.4g}] (by the proof: |W_11| <= {found.bound:.4g})"
    )
    return found, text, bool(fits)


def proposition_2() -> list[Finding]:
    """Effective rank and distance from the infimal rank along Equation 7's set: greatest at 0, falling to 1 and 0."""
    paper = SolutionSet.of_equation_6()
    findings = []
    for name, measure, first, limit in (
        ("effective rank", paper.effective_rank, 2.0, 1.0),
        ("distance from the infimal rank", paper.distance_to_infimal_rank, 1.0, 0.0),
    ):
        values = [measure(sign * np.append(0.0, GRID)) for sign in (1, -1)]
        # Strictly, where the value is above its limit by more than rounding.
        falling = all(
            (np.diff(each)[each[1:] - limit > ROUNDING] < 0).all() and (np.diff(each) <= 1e-15).all() for each in values
        )
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
    """The sign of the initial product's determinant over many draws, with an exact binomial interval around it.

    Each initialisation has draws of its own. The intervals hold together: if the sign is fair, any of them misses one
    half with probability at most `FALSE_ALARM` (Bonferroni). They can see a frequency that differs from one half by
    more than the interval's width.
    """
    kinds: dict[str, Initialisation] = {
        "gaussian": Gaussian(1.0),
        "balanced": Balanced(1.0),
        "between": Between(1.0, 0.5),
        "orthogonal": Orthogonal(1.0),
    }
    confidence = 1 - FALSE_ALARM / len(kinds)
    findings = []
    for name, init in kinds.items():
        sizes = (size,) * (depth + 1)
        positive, (low, high) = sign_frequency(init, sizes, draws, seed, confidence, f"signs of determinants, {name}")
        findings.append(
            Finding(
                "Proposition 3",
                f"init={name}, depth {depth}, {size}x{size}, {draws:,} draws",
                f"positive {positive / draws:.5f}, in [{low:.5f}, {high:.5f}] (all {len(kinds)} intervals together: "
                f"{1 - FALSE_ALARM:.2%})",
                low <= 0.5 <= high,
            )
        )
    return findings


SYMMETRIC: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "uniform": lambda random, shape: random.uniform(-1.0, 1.0, shape),
    "Rademacher times exponential": lambda random, shape: (
        random.choice([-1.0, 1.0], shape) * random.standard_exponential(shape)
    ),
    "Student t, 2 degrees of freedom": lambda random, shape: random.standard_t(2, shape),
    "normal, each entry of another scale": lambda random, shape: (
        random.standard_normal(shape) * np.geomspace(1.0, 1e3, shape[-1] * shape[-2]).reshape(shape[-2:])
    ),
}
SIZES = range(1, 7)


def symmetric_draws(draws: int = DRAWS // 10, sizes: Sequence[int] = SIZES, seed: int = 0) -> list[Finding]:
    """Proposition 3's first part, for distributions that are symmetric about 0 and for each size.

    The exact argument: W and the matrix with its first row negated are equally likely, and their determinants have
    opposite signs, so one half follows where no determinant is 0. The finding checks both facts for every draw: that
    negating the row turns the computed sign, and that none is 0. Exact binomial intervals must agree: they all
    contain one half, if the signs are fair, but with probability `FALSE_ALARM` (Bonferroni).
    """
    confidence = 1 - FALSE_ALARM / (len(SYMMETRIC) * len(sizes))
    findings = []
    for name, draw in SYMMETRIC.items():
        shares, turned, fair = [], True, True
        for size in sizes:
            matrices = draw(generator(seed, f"signs of determinants, {name}, {size}"), (draws, size, size))
            found = signs([matrices])
            matrices[:, 0] *= -1
            turned &= bool((signs([matrices]) == -found).all() and (found != 0).all())
            positive = int((found > 0).sum())
            interval = binomtest(positive, draws).proportion_ci(confidence, method="exact")
            fair &= bool(interval.low <= 0.5 <= interval.high)
            shares.append(positive / draws)
        findings.append(
            Finding(
                "Proposition 3",
                f"entries {name}, sizes {min(sizes)} to {max(sizes)}, {draws:,} draws each",
                f"positive {min(shares):.5f} to {max(shares):.5f}; one half is {'' if fair else 'NOT '}in each "
                f"interval (all {len(SYMMETRIC) * len(sizes)} together: {1 - FALSE_ALARM:.2%}); to negate a row "
                f"{'turns every sign' if turned else 'does NOT turn every sign'}",
                turned and fair,
            )
        )
    return findings


def sign_frequency(
    init: Initialisation,
    sizes: tuple[int, ...],
    draws: int,
    seed: int = 0,
    confidence: float = 1 - FALSE_ALARM,
    purpose: str = "signs of determinants",
) -> tuple[int, tuple[float, float]]:
    """How many of so many initial products have a positive determinant, and an exact (Clopper-Pearson) interval.

    Args:
        sizes: d_0, d_1, ..., d_L, with d_0 = d_L.
        confidence: of the interval.
        purpose: of the draws, which are others for another purpose.

    Example:
        >>> positive, (low, high) = sign_frequency(Gaussian(1.0), (2, 2, 2), draws=1000)
        >>> low < 0.5 < high
        True
    """
    random = generator(seed, purpose)
    positive, block = 0, 100_000
    for start in range(0, draws, block):
        factors = init.factors(sizes, random, (min(block, draws - start),))
        positive += int((signs(factors) > 0).sum())
    interval = binomtest(positive, draws).proportion_ci(confidence, method="exact")
    return positive, (float(interval.low), float(interval.high))


def proposition_4(alphas: Sequence[float] = ALPHAS, stop_loss: float = 1e-10) -> list[Finding]:
    """Depth 2 from alpha times the identity, by flow: the loss falls to `stop_loss`, the determinant stays positive.

    The determinant's logarithm is one of the integrated variables, so that it is positive proves nothing by itself. Two
    checks could fail. Near |W_11| = 3.5 time, entry, loss and determinant are compared with those of W' = -(W G + G W),
    integrated by another method in the entries of W, where the determinant is W_11 W_22 - W_12 W_21. Later the law
    ln det W = -W_11^2 / 2 - 3 ln W_11 + c must hold: c must not move by more than 0.05 from |W_11| = 20 to the end.
    """
    findings = []
    for alpha in alphas:
        first, middle, last = (
            symmetric_flow(alpha, loss) for loss in (0.5 / RESOLVED**2, 0.5 / ASYMPTOTIC**2, stop_loss)
        )
        w, loss, falling = _direct_flow(alpha, first[0])
        determinant = w[0] * w[2] - w[1] ** 2
        agrees = bool(
            np.allclose([w[0], loss], first[1:3], rtol=1e-6, atol=0)
            and determinant > 0
            and abs(np.log(determinant) - first[3]) < 1e-3
        )
        c = [log_determinant + entry**2 / 2 + 3 * np.log(entry) for _, entry, _, log_determinant in (middle, last)]
        time, entry, loss, log_determinant = last
        findings.append(
            Finding(
                "Proposition 4",
                f"depth 2 from {alpha:g} I, flow",
                f"loss {loss:.3g} at time {time:.3g}, W_11 {entry:.6g}, ln det {log_determinant:.6g}; at W_11 = "
                f"{first[1]:.3g} {first[3]:.6g}, by entries {np.log(determinant):.6g}; c moves by {c[1] - c[0]:.2g}",
                bool(loss <= stop_loss * (1 + 1e-6) and entry > 0 and agrees and falling and abs(c[1] - c[0]) < 0.05),
            )
        )
    return findings


def _direct_flow(alpha: float, time: float) -> tuple[np.ndarray, float, bool]:
    """(W_11, W_12, W_22) and the loss at a time, integrated in these entries; and whether the loss never rose."""

    def slope(_: float, w: np.ndarray) -> np.ndarray:
        w_11, w_12, w_22 = w
        e = w_12 - 1
        return -np.array([2 * w_12 * e, (w_11 + w_22) * e + w_12 * w_22, 2 * (w_12 * e + w_22 * w_22)])

    made = solve_ivp(slope, (0, time), [alpha, 0.0, alpha], method="DOP853", rtol=1e-13, atol=1e-16)
    losses = (made.y[1] - 1) ** 2 + made.y[2] ** 2 / 2
    return made.y[:, -1], float(losses[-1]), bool((np.diff(losses) <= 0).all())


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


def try_all(draws: int = DRAWS) -> list[Finding]:
    """All four."""
    tenth = max(1, draws // 10)
    return [*proposition_1(), *proposition_2(), *proposition_3(draws), *symmetric_draws(tenth), *proposition_4()]


def format_findings(findings: Sequence[Finding]) -> str:
    """A line for each."""
    return "\n".join(
        f"{'holds   ' if finding.holds else 'VIOLATED'}  {finding.statement}  {finding.tried}: {finding.found}"
        for finding in findings
    )
