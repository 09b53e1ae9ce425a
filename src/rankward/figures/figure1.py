"""Figure 1: the unobserved entry grows as the loss falls, a panel a depth, with the determinant's bound beneath."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from rankward import results
from rankward.figures import style
from rankward.theory import robustness_bound

COLORMAP = colors.LinearSegmentedColormap.from_list("iterations", plt.get_cmap("viridis")(np.linspace(0, 0.92, 256)))


@dataclass(frozen=True)
class Curve:
    """One run's line: |unobserved entry| against loss, with the iteration of each point."""

    depth: int
    label: str
    loss: np.ndarray
    entry: np.ndarray
    iteration: np.ndarray
    kept: np.ndarray  # where the determinant still has the sign it started with, so that the bound applies
    values: tuple[float, float, float]  # b_12, b_21, b_22


def draw(sweep: Path) -> list[Path]:
    """Draw the runs that have a trace; a run that has none, or another size than 2x2, is left out.

    Raises:
        ResultsError: no run to draw.
    """
    curves = [curve for folder in results.run_folders(sweep) if (curve := _curve(folder)) is not None]
    if not curves:
        raise results.ResultsError(f"cannot draw figure1 of {sweep}: no finished 2x2 run there")
    depths = sorted({curve.depth for curve in curves})
    with plt.rc_context(style.RC):
        figure, axes = plt.subplots(
            1, len(depths), figsize=(3.5 * len(depths) + 0.9, 3.6),
            sharex=True, sharey=True, squeeze=False, layout="constrained",
        )  # fmt: skip
        last = max(float(curve.iteration[-1]) for curve in curves)
        scale = colors.LogNorm(vmin=100, vmax=max(last, 1000))
        for axis, depth in zip(axes[0], depths, strict=True):
            _panel(axis, [curve for curve in curves if curve.depth == depth], scale)
            axis.set_title(f"depth {depth}")
        losses = np.concatenate([curve.loss for curve in curves])
        axes[0][0].set_xlim(1.5 * losses.max(), 0.6 * losses.min())
        axes[0][0].set_ylabel("absolute value of the unobserved entry")
        figure.legend(handles=_key(), loc="outside lower center", ncols=2)
        bar = figure.colorbar(plt.cm.ScalarMappable(scale, COLORMAP), ax=axes, pad=0.01, aspect=28)
        bar.set_label("iteration")
        bar.outline.set_visible(False)  # type: ignore[operator]
        paths = style.save(figure, sweep, "figure1")
        plt.close(figure)
    return paths


def _curve(folder: Path) -> Curve | None:
    if not results.is_complete(folder):
        return None
    factors = results.read_factors(folder)
    mask = factors.get("observations.mask")
    if mask is None or mask.shape != (2, 2) or int(mask.sum()) != 3:
        return None
    row, col = (int(i) for i in np.argwhere(~mask.numpy())[0])
    b = factors["observations.values"].numpy()
    trace = results.read_trace(folder)
    loss, iteration = trace["loss"].to_numpy(), trace["iteration"].to_numpy()
    entry = np.abs(trace[f"entry/{row}_{col}"].to_numpy())
    shown = np.isfinite(loss) & np.isfinite(entry) & (entry > 0) & (loss > 0)
    config = results.read_config(folder)
    return Curve(
        depth=int(config["depth"]["layers"]),
        label=_label(config),
        loss=loss[shown],
        entry=entry[shown],
        iteration=iteration[shown],
        kept=_sign_kept(trace)[shown],
        values=(float(b[row, 1 - col]), float(b[1 - row, col]), float(b[1 - row, 1 - col])),
    )


def _sign_kept(trace: pl.DataFrame) -> np.ndarray:
    """Whether the determinant has not yet changed its sign, row by row; a trace without that metric says yes."""
    if "determinant/sign" not in trace.columns:
        return np.ones(len(trace), dtype=bool)
    sign = trace["determinant/sign"].to_numpy()
    return np.logical_and.accumulate(sign == sign[0])


def _label(config: dict[str, Any]) -> str:
    balanced = " (b)" if config["init"]["name"] == "balanced" else ""
    return f"lr: {_short(config['lr']['eta'])}, init: {_short(config['init']['scale'])}{balanced}"


def _short(value: float) -> str:
    """A number as the paper's legends have it.

    Example:
        >>> _short(0.006), _short(1e-05), _short(0.0015)
        ('6e-3', '1e-5', '1.5e-3')
    """
    mantissa, exponent = f"{value:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _panel(axis: Axes, curves: list[Curve], scale: colors.LogNorm) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    for b in {curve.values for curve in curves}:
        losses = np.geomspace(min(c.loss.min() for c in curves), 0.5 * min(abs(b[0]), abs(b[1])) ** 2 * 0.999, 300)
        bound = robustness_bound(losses, *b)
        axis.fill_between(losses, np.full_like(bound, 1e-6), bound, color="0.5", alpha=0.10, linewidth=0, zorder=0)
        axis.plot(losses, bound, **style.BOUND, zorder=1)
    for number, curve in enumerate(curves):
        picked = _thinned(curve, offset=number / max(1, len(curves)))
        axis.plot(curve.loss, curve.entry, color="0.75", linewidth=0.6, zorder=2)
        marker = style.MARKERS[number % len(style.MARKERS)]
        for rows, hollow in ((picked[curve.kept[picked]], False), (picked[~curve.kept[picked]], True)):
            shades = COLORMAP(scale(curve.iteration[rows].clip(min=1)))
            axis.scatter(
                curve.loss[rows], curve.entry[rows], marker=marker, s=17, zorder=3 + number,
                facecolors="white" if hollow else shades, edgecolors=shades if hollow else "white",
                linewidths=0.9 if hollow else 0.4,
            )  # fmt: skip
        axis.plot(
            [], [], marker=marker, color="0.45", linestyle="none", markersize=4.5, label=curve.label
        )  # fmt: skip
    axis.set_ylim(bottom=max(1e-4, 0.3 * min(float(np.quantile(c.entry, 0.02)) for c in curves)))
    axis.set_xlabel("loss")
    axis.legend(loc="upper left", handlelength=1.6, labelspacing=0.35, borderaxespad=0.2)


def _key() -> list[Line2D]:
    """What the panels share: the bound, and what a hollow marker means."""
    return [
        Line2D([], [], **style.BOUND, label="what the determinant's sign alone forces: no filled marker beneath"),
        Line2D([], [], color="0.45", marker="o", markerfacecolor="white", linestyle="none", markersize=4.5,
               label="hollow: the determinant has changed its sign on the way"),
    ]  # fmt: skip


def _thinned(curve: Curve, offset: float, markers: int = 26) -> np.ndarray:
    """Rows about evenly spaced along the drawn path, shifted so that runs on one curve do not hide each other."""
    steps = np.hypot(np.diff(np.log(curve.loss)), np.diff(np.log(curve.entry)))
    path = np.concatenate([[0.0], np.cumsum(steps)])
    wanted = (np.arange(markers) + offset) / markers * path[-1]
    return np.unique(np.concatenate([np.searchsorted(path, wanted).clip(max=len(path) - 1), [len(path) - 1]]))
