"""What Figure 1 reads of a sweep: one curve a run, and why a run has none."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from rankward import results


@dataclass(frozen=True)
class Curve:
    """One run: |unobserved entry| against loss, with the iteration of each point.

    `forced` says where the determinant has the sign from which the bound follows: sign det W = sign(b_12 b_21), rows
    and columns permuted so that the unobserved entry is W_11.
    """

    run: str
    depth: int
    label: str
    seed: int
    loss: Float[np.ndarray, " rows"]
    entry: Float[np.ndarray, " rows"]
    iteration: Int[np.ndarray, " rows"]
    forced: Bool[np.ndarray, " rows"]
    values: tuple[float, float, float]  # b_12, b_21, b_22


class LeftOut(Exception):
    """Why a run is not in the figure."""


def curves(sweep: Path, only: Collection[str] | None = None) -> tuple[list[Curve], list[str]]:
    """The runs that can be shown (of the folders `only`), in job order, and a line for each that cannot."""
    shown: list[Curve] = []
    left_out: list[str] = []
    for folder in results.run_folders(sweep):
        if only is not None and folder.name not in only:
            continue
        try:
            shown.append(curve(folder))
        except (LeftOut, results.ResultsError) as reason:
            left_out.append(f"{folder.name}: {reason}")
    return told_apart(shown), left_out


def curve(folder: Path) -> Curve:
    """One run's curve.

    Raises:
        LeftOut: a run that has not finished, has diverged, or does not leave just one entry of a 2x2 matrix unobserved.
        ResultsError: a file that cannot be read.
    """
    if not results.is_complete(folder):
        raise LeftOut("not finished")
    if results.read_summary(folder)["status"] == "diverged":
        raise LeftOut("diverged")
    arrays, trace, config = results.read_arrays(folder), results.read_trace(folder), results.read_config(folder)
    mask, b = arrays.get("observations.mask"), arrays["observations.values"]
    if mask is None or mask.shape != (2, 2) or mask.sum() != 3:
        raise LeftOut("not a 2x2 matrix with one entry unobserved")
    row, col = (int(i) for i in np.argwhere(~mask)[0])
    if f"entry/{row}_{col}" not in trace.columns:
        raise LeftOut(f"no column entry/{row}_{col} in its trace")
    b_12, b_21, b_22 = float(b[row, 1 - col]), float(b[1 - row, col]), float(b[1 - row, 1 - col])
    loss, entry = trace["loss"].to_numpy(), np.abs(trace[f"entry/{row}_{col}"].to_numpy())
    shown = np.isfinite(loss) & np.isfinite(entry) & (loss > 0) & (entry > 0)
    if not shown.any():
        raise LeftOut("nothing in its trace has a place on log axes")
    swapped = -1 if (row + col) % 2 else 1  # one swap of rows or columns turns the determinant's sign
    init, rate = config.get("init", {}), config.get("lr", {})
    return Curve(
        run=folder.name,
        depth=int(config["depth"]["layers"]),
        label=_label(init, rate),
        seed=int(config["seed"]),
        loss=loss[shown],
        entry=entry[shown],
        iteration=trace["iteration"].to_numpy()[shown],
        forced=(_determinant_sign(trace) * swapped == np.sign(b_12 * b_21))[shown],
        values=(b_12, b_21, b_22),
    )


def _determinant_sign(trace: pl.DataFrame) -> np.ndarray:
    """Of the trace's metric, or of its entries; NaN where it has neither."""
    if "determinant/sign" in trace.columns:
        return trace["determinant/sign"].to_numpy()
    names = [f"entry/{i}_{j}" for i in (0, 1) for j in (0, 1)]
    if not set(names) <= set(trace.columns):
        return np.full(len(trace), np.nan)
    w_11, w_12, w_21, w_22 = (trace[name].to_numpy() for name in names)
    return np.asarray(np.sign(w_11 * w_22 - w_12 * w_21))


def _label(init: dict[str, Any], rate: dict[str, Any]) -> str:
    parts = [
        f"{name}: {short(node[key])}"
        for name, node, key in (("lr", rate, "eta"), ("init", init, "scale"))
        if key in node
    ]
    kind = {"balanced": " (b)", "gaussian": ""}.get(init.get("name", "gaussian"), f" ({init.get('name')})")
    return ", ".join(parts) + kind


def told_apart(shown: list[Curve]) -> list[Curve]:
    """Labels that would stand twice in a panel get the seed where that differs, and else the run's folder."""
    for addition in ("seed", "run"):
        found: dict[tuple[int, str], set[object]] = {}
        for c in shown:
            found.setdefault((c.depth, c.label), set()).add(getattr(c, addition))
        shown = [
            replace(c, label=f"{c.label}, {addition} {getattr(c, addition)}") if len(found[c.depth, c.label]) > 1 else c
            for c in shown
        ]
    return shown


def short(value: float) -> str:
    """A number as the paper's legends have it.

    Example:
        >>> short(0.006), short(1e-05), short(0.0015)
        ('6e-3', '1e-5', '1.5e-3')
    """
    mantissa, exponent = f"{value:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
