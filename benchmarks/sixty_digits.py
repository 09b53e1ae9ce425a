"""Run gradient descent at depth 2 on Equation 6 in decimal arithmetic of any precision, to exclude rounding.

Matrices are tuples (top left, top right, bottom left, bottom right) of decimals. About 5 microseconds an iteration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext

import numpy as np

DIGITS = 60

Matrix = tuple[Decimal, Decimal, Decimal, Decimal]


@dataclass(frozen=True)
class End:
    """The end of a descent.

    Args:
        iterations: that it made.
        entry: W_11 at the end.
        loss: at the end.
        turned: the first iteration at which the determinant's sign is not the start's; None if it never turns.
        turned_at: W_11 there.
        factors: W_1 and W_2 at the end; of a balanced descent none.
    """

    iterations: int
    entry: float
    loss: float
    turned: int | None
    turned_at: float | None
    factors: tuple[Matrix, ...] = ()


def exact(matrix: np.ndarray) -> Matrix:
    """The matrix in decimals, without rounding: a float is a finite decimal."""
    a, b, c, d = (Decimal(float(value)) for value in np.asarray(matrix).ravel())
    return a, b, c, d


def descend(
    start: Sequence[Matrix], eta: float, stop: float, every: int = 50, limit: int = 10**8, digits: int = DIGITS
) -> End:
    """Gradient descent on W_1, W_2, which is looked at every `every` iterations, until its loss is below `stop`."""
    with localcontext() as context:
        context.prec = digits
        (a, b, c, d), (e, f, g, h) = start
        rate, lowest = Decimal(eta), Decimal(stop)
        positive = (a * d - b * c) * (e * h - f * g) > 0
        turned, turned_at = None, None
        iteration = 0
        while True:
            r_12, r_21, r_22 = e * b + f * d - 1, g * a + h * c - 1, g * b + h * d
            if iteration % every == 0:
                loss = (r_12 * r_12 + r_21 * r_21 + r_22 * r_22) / 2
                if loss < lowest or iteration >= limit:
                    entry = float(e * a + f * c)
                    return End(iteration, entry, float(loss), turned, turned_at, ((a, b, c, d), (e, f, g, h)))
            # The residual is E = [[0, r_12], [r_21, r_22]]; the gradients are W_2^T E and E W_1^T.
            lower = (g * r_21, e * r_12 + g * r_22, h * r_21, f * r_12 + h * r_22)
            upper = (r_12 * b, r_12 * d, r_21 * a + r_22 * b, r_21 * c + r_22 * d)
            a, b, c, d = a - rate * lower[0], b - rate * lower[1], c - rate * lower[2], d - rate * lower[3]
            e, f, g, h = e - rate * upper[0], f - rate * upper[1], g - rate * upper[2], h - rate * upper[3]
            iteration += 1
            if turned is None and ((a * d - b * c) * (e * h - f * g) > 0) != positive:
                turned, turned_at = iteration, float(e * a + f * c)


def descend_balanced(
    start: Matrix, eta: float, stop: float, every: int = 50, limit: int = 10**8, digits: int = DIGITS
) -> tuple[End, list[tuple[float, float]]]:
    """The same steps, but after each the layers are balanced again, which leaves the product as it is.

    Then W_1^T W_1 = P = (W^T W)^(1/2) and W_2 W_2^T = Q = (W W^T)^(1/2), so that the product moves by itself, by
    -eta (E P + Q E) + eta^2 E W^T E. The root of a 2x2 matrix M = W^T W or W W^T has the closed form
    (M + |det W| I) / (sigma_1 + sigma_2).

    Args:
        start: the product.

    Returns:
        The end, and (|W_11|, ln |det W|) where |W_11| first exceeds 2, 3, 4, ...
    """
    with localcontext() as context:
        context.prec = digits
        a, b, c, d = start
        rate, lowest = Decimal(eta), Decimal(stop)
        positive = a * d - b * c > 0
        turned, turned_at = None, None
        marks: list[tuple[float, float]] = []
        iteration, mark = 0, 2
        while True:
            r_12, r_21 = b - 1, c - 1
            size = abs(a * d - b * c)
            if abs(a) > mark:
                marks.append((float(abs(a)), float(size.ln())))
                mark += 1
            if iteration % every == 0:
                loss = (r_12 * r_12 + r_21 * r_21 + d * d) / 2
                if loss < lowest or iteration >= limit:
                    return End(iteration, float(a), float(loss), turned, turned_at), marks
            total = (a * a + b * b + c * c + d * d + 2 * size).sqrt()
            p_11, p_12, p_22 = (a * a + c * c + size) / total, (a * b + c * d) / total, (b * b + d * d + size) / total
            q_11, q_12, q_22 = (a * a + b * b + size) / total, (a * c + b * d) / total, (c * c + d * d + size) / total
            m_11, m_12, m_21, m_22 = r_12 * b, r_12 * d, r_21 * a + d * b, r_21 * c + d * d  # E W^T
            change = (
                r_12 * p_12 + q_12 * r_21 - rate * m_12 * r_21,
                r_12 * p_22 + q_11 * r_12 + q_12 * d - rate * (m_11 * r_12 + m_12 * d),
                r_21 * p_11 + d * p_12 + q_22 * r_21 - rate * m_22 * r_21,
                r_21 * p_12 + d * p_22 + q_12 * r_12 + q_22 * d - rate * (m_21 * r_12 + m_22 * d),
            )
            a, b, c, d = a - rate * change[0], b - rate * change[1], c - rate * change[2], d - rate * change[3]
            iteration += 1
            if turned is None and (a * d - b * c > 0) != positive:
                turned, turned_at = iteration, float(a)
