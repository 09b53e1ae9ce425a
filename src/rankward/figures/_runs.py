"""Curves of single runs for Figures 1, 4 and 5, and the reason why a run has none."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from rankward import results
from rankward.theory.bounds import EntryBounds


@dataclass(frozen=True)
class Curve:
    """One run: |unobserved entry| against Equation 1's half sum, with the iteration of each point.

    `forced` says in which rows the determinant has the sign from which the bound follows (`EntryBounds.sign`). A
    `faint` curve is drawn behind the others, without markers, and an `exact` one, of flow in singular coordinates, as a
    thin line.
    """

    run: str
    depth: float  # as in the config: flow in singular coordinates has any depth
    dims: tuple[int, int]
    unobserved: tuple[int, int]
    label: str
    panel: str
    seed: int
    loss: Float[np.ndarray, " rows"]
    entry: Float[np.ndarray, " rows"]
    iteration: Int[np.ndarray, " rows"]
    forced: Bool[np.ndarray, " rows"]
    bounds: EntryBounds  # of this run alone
    faint: bool = False
    exact: bool = False

    @property
    def values(self) -> tuple[float, ...]:
        """b_12, b_21, b_22 of a 2x2 problem; empty for larger matrices."""
        return tuple(self.bounds.values[0].tolist()) if self.dims == (2, 2) else ()

    def bound(self, loss: np.ndarray) -> np.ndarray:
        """The bound that the determinant's sign implies at these losses; NaN where there is none."""
        return self.bounds.at(loss, 0)

    @property
    def largest_loss(self) -> float:
        """The loss below which there is a bound."""
        return self.bounds.largest_loss(0)


class LeftOut(Exception):
    """A run that is not in the figure; the message is the reason."""


def curves(
    sweep: Path, only: Collection[str] | None = None, arranged: Callable[[Curve], Curve] = lambda c: c
) -> tuple[list[Curve], list[str]]:
    """The curves of runs (of the folders `only`), in job order, and a line for each run without one.

    `arranged` may change the panel and the label of a curve.
    """
    shown: list[Curve] = []
    left_out: list[str] = []
    for folder in results.run_folders(sweep):
        name = results.run_name(sweep, folder)
        if only is not None and name not in only:
            continue
        try:
            shown.append(arranged(curve_of(name, read(folder))))
        except (LeftOut, results.ResultsError) as reason:
            left_out.append(f"{name}: {reason}")
    return disambiguate_labels(shown), left_out


@dataclass(frozen=True)
class Files:
    """Result files of a finished run."""

    arrays: dict[str, np.ndarray]
    trace: pl.DataFrame
    config: dict[str, Any]


def read(folder: Path) -> Files:
    """Read the files of a run.

    Raises:
        LeftOut: the run has not finished, or has diverged.
        ResultsError: a file cannot be read.
    """
    if not results.is_complete(folder):
        raise LeftOut("not finished")
    if results.read_summary(folder)["status"] == "diverged":
        raise LeftOut("diverged")
    return Files(results.read_arrays(folder), results.read_trace(folder), results.read_config(folder))


def curve_of(name: str, files: Files) -> Curve:
    """The curve of a run.

    Raises:
        LeftOut: the run does not leave exactly one entry of a matrix unobserved, or is larger than 2x2 and not Appendix
            E's problem, or has no row to draw on log axes.
    """
    arrays, trace, config = files.arrays, files.trace, files.config
    mask, b = arrays.get("observations.mask"), arrays["observations.values"]
    if mask is None or mask.ndim != 2 or mask.size - mask.sum() != 1:
        raise LeftOut("not a matrix with one entry unobserved")
    bounds = EntryBounds(mask[None], b[None].astype(np.float64), mask.shape)
    row, col = bounds.unobserved[0].tolist()
    loss_config = config.get("loss", {})  # runs of older versions have none: theirs is squared
    if loss_config.get("name", "squared") != "squared":
        raise LeftOut("its loss is not squared, and there is no bound")
    if mask.shape != (2, 2) and not bounds.is_appendix_e[0]:
        raise LeftOut("neither 2x2 nor the problem of Appendix E")
    if f"entry/{row}_{col}" not in trace.columns:
        raise LeftOut(f"no column entry/{row}_{col} in its trace")
    loss = trace["loss"].to_numpy() * results.half_sums(trace["loss"][-1], arrays, loss_config)
    entry = np.abs(trace[f"entry/{row}_{col}"].to_numpy())
    shown = np.isfinite(loss) & np.isfinite(entry) & (loss > 0) & (entry > 0)
    if not shown.any():
        raise LeftOut("no row of its trace can be drawn on log axes")
    init, rate = config.get("init", {}), config.get("lr", {})
    return Curve(
        run=name,
        depth=float(config["depth"]["layers"]),
        dims=(mask.shape[0], mask.shape[1]),
        unobserved=(row, col),
        label=_label(init, rate),
        panel=f"depth {config['depth']['layers']:g}",
        seed=int(config["seed"]),
        loss=loss[shown],
        entry=entry[shown],
        iteration=trace["iteration"].to_numpy()[shown],
        forced=(_determinant_sign(trace, mask.shape) == bounds.sign[0])[shown],
        bounds=bounds,
        exact=rate.get("coordinates") == "singular",
    )


def _determinant_sign(trace: pl.DataFrame, dims: tuple[int, ...]) -> np.ndarray:
    """The column `determinant/sign`, or the sign of a 2x2 product's entries; NaN where neither is recorded."""
    if "determinant/sign" in trace.columns:
        return trace["determinant/sign"].to_numpy()
    names = [f"entry/{i}_{j}" for i in (0, 1) for j in (0, 1)]
    if dims != (2, 2) or not set(names) <= set(trace.columns):
        return np.full(len(trace), np.nan)
    w_11, w_12, w_21, w_22 = (trace[name].to_numpy() for name in names)
    return np.asarray(np.sign(w_11 * w_22 - w_12 * w_21))


def _label(init: dict[str, Any], rate: dict[str, Any]) -> str:
    if rate.get("name") == "flow":
        rate = {}
    parts = [
        f"{name}: {short(node[key])}"
        for name, node, key in (("lr", rate, "eta"), ("init", init, "scale"))
        if key in node
    ]
    kind = {"balanced": " (b)", "gaussian": ""}.get(init.get("name", "gaussian"), f" ({init.get('name')})")
    return ", ".join(["flow"] * (not rate) + parts) + kind


def disambiguate_labels(shown: list[Curve]) -> list[Curve]:
    """Add the seed to labels that occur twice in a panel, or the run's folder where the seeds are equal."""
    for addition in ("seed", "run"):
        found: dict[tuple[str, str], set[object]] = {}
        for c in shown:
            found.setdefault((c.panel, c.label), set()).add(getattr(c, addition))
        shown = [
            replace(c, label=f"{c.label}, {addition} {getattr(c, addition)}") if len(found[c.panel, c.label]) > 1 else c
            for c in shown
        ]
    return shown


def short(value: float) -> str:
    """Format a number as in the paper's legends.

    Example:
        >>> short(0.006), short(1e-05), short(0.0015)
        ('6e-3', '1e-5', '1.5e-3')
    """
    mantissa, exponent = f"{value:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
