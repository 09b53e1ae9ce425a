"""The closed form of flow at depth 2 where no two observed entries share a row or a column, such as a diagonal."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from rankward.theory.certificates import (
    HOLDS,
    SQUARED_LOSS,
    VIOLATED,
    Bound,
    Certificate,
    RunContext,
    Trace,
    first_failing,
    not_applicable,
    says_nothing,
)
from rankward.theory.statements import CHAIN, DECAYING, DISCRETE, check_tolerance, integration_error


def product_at(
    first: Float[np.ndarray, "hidden cols"],
    second: Float[np.ndarray, "rows hidden"],
    mask: Bool[np.ndarray, "rows cols"],
    entries: Float[np.ndarray, "*batch pairs"],
) -> Float[np.ndarray, "*batch rows cols"]:
    """The product of the flow of W_2 W_1 at the time at which its observed entries have these values.

    With a row a of W_2 and a column b of W_1 whose product y = <a, b> is observed, and no other product of both, flow
    of Equation 1 multiplies u = a + b by a number and divides v = a - b by it: it conserves u v^T. So y alone says how
    far they have moved: with x = (4y + sqrt(16 y^2 + 4 |u|^2 |v|^2)) / (2 |u|^2), a becomes
    (u sqrt(x) + v / sqrt(x)) / 2 and b becomes (u sqrt(x) - v / sqrt(x)) / 2, u and v of the start. Rows and columns
    without an observed entry do not move. The start may be balanced or not.

    Args:
        first, second: W_1 and W_2 at the start.
        mask: of observed entries, at most one in a row and at most one in a column.
        entries: [..., pairs] values of the observed entries, row by row; at the end of the flow, the observations.

    Returns:
        [..., rows, cols]; NaN in the row and column of an entry that flow from this start never has.

    Raises:
        ValueError: two observed entries share a row or a column.

    Example:
        >>> start, seen = np.full((2, 2), 1e-6), np.eye(2, dtype=bool)  # rank 1, and equal rows
        >>> product_at(start, start, seen, np.array([1.0, 4.0])).round(6).tolist()
        [[1.0, 2.0], [2.0, 4.0]]
        >>> product_at(1e-6 * np.eye(2), 1e-6 * np.eye(2), seen, np.array([1.0, 4.0])).round(6).tolist()
        [[1.0, 0.0], [0.0, 4.0]]
    """
    if not is_matching(mask):
        raise ValueError("mask: two observed entries share a row or a column; expected at most one in each")
    rows, cols = np.nonzero(mask)
    left, right = second[rows], first[:, cols].T
    u, v = left + right, left - right
    u_square, v_square = (u * u).sum(1), (v * v).sum(1)
    with np.errstate(all="ignore"):
        root = np.sqrt(16 * entries * entries + 4 * u_square * v_square)
        x = np.where(entries < 0, 2 * v_square / (root - 4 * entries), (root + 4 * entries) / (2 * u_square))
        x = np.where((u_square == 0) & (v_square == 0) & (entries == 0), 1.0, x)
        growing, shrinking = (0.5 * np.sqrt(x)[..., None] * u, 0.5 / np.sqrt(x)[..., None] * v)
    batch = entries.shape[:-1]
    moved_rows = np.broadcast_to(second, (*batch, *second.shape)).copy()
    moved_cols = np.broadcast_to(first.T, (*batch, *first.T.shape)).copy()
    moved_rows[..., rows, :] = growing + shrinking
    moved_cols[..., cols, :] = growing - shrinking
    return np.asarray(moved_rows @ moved_cols.swapaxes(-1, -2))


def is_matching(mask: Bool[np.ndarray, "*batch rows cols"]) -> np.ndarray:
    """Whether no two observed entries share a row or a column.

    Example:
        >>> is_matching(np.array([[[True, False], [False, True]], [[True, True], [False, True]]])).tolist()
        [True, False]
    """
    return np.asarray((mask.sum(-1) <= 1).all(-1) & (mask.sum(-2) <= 1).all(-1))


class ExactEnd(Certificate):
    """Flow at depth 2 with a diagonal observed has the product that `product_at` predicts, in every row.

    Each row's prediction takes its observed entries from the row and all else from the start. The verdict is `holds` if
    every entry is as predicted, and an unobserved entry has moved from the start by more than the tolerance. `distance`
    is the largest difference, relative to the largest predicted entry of the row.

    Args:
        tolerance: of that difference. None: ten times the relative tolerance of a step, plus the rounding of all
            steps so far (machine epsilon times 100 + 10 sqrt(steps)).

    Raises:
        ValueError: the tolerance is not above 0.
    """

    name = "exact_end"

    def __init__(self, tolerance: float | None = None) -> None:
        check_tolerance(tolerance)
        self.tolerance = tolerance

    def bounds(self, context: RunContext, trace: Trace) -> list[Bound]:
        return []

    def failing_premises(self, context: RunContext) -> list[str | None]:
        matching: Any = False
        if context.mask is not None and len(context.dims) == 2:
            matching = is_matching(context.mask)
        return first_failing(
            context.runs,
            [
                (context.squared, SQUARED_LOSS),
                (matching, "observed entries of which no two share a row or a column"),
                (context.chain, CHAIN),
                (context.depth == 2, f"depth 2, not {context.depth}"),
                (context.is_flow, DISCRETE),
                (context.decay is None, DECAYING),
            ],
        )

    def verdicts(self, context: RunContext, trace: Trace) -> dict[str, dict[str, Any]]:
        premise = self.failing_premises(context)[0]
        rows, cols = context.dims if len(context.dims) == 2 else (0, 0)
        names = [f"entry/{i}_{j}" for i in range(rows) for j in range(cols)]
        if premise is None and not set(names) <= set(trace):
            premise = "columns entry/... for all entries (metrics.columns.entries.largest)"
        if premise is not None:
            return {self.name: not_applicable(premise)}
        assert context.mask is not None and context.factors is not None
        measured = np.stack([trace[name] for name in names], axis=1).reshape(-1, rows, cols)
        first, second = (each[0] for each in context.factors)
        predicted = product_at(first, second, context.mask[0], measured[:, context.mask[0]])
        size = np.abs(predicted).max((1, 2))
        distance = np.abs(measured - predicted).max((1, 2)) / size
        limit = integration_error(context, trace, self.tolerance)
        off = ~(distance <= limit)
        if off.any():
            at = int(off.argmax())
            found = {"distance": float(distance[at]), "tolerance": float(limit[at])}
            return {self.name: {"verdict": VIOLATED, "iteration": int(trace["iteration"][at]), **found}}
        at = int(distance.argmax())
        found = {"distance": float(distance[at]), "tolerance": float(limit[at]), "rows": len(distance)}
        moved = np.abs(predicted - context.product[0]).max((1, 2), where=~context.mask[0], initial=0.0)
        if not (moved > limit * size).any():
            return {self.name: says_nothing("no unobserved entry has moved from the start", found)}
        return {self.name: {"verdict": HOLDS, **found}}
