"""Diagonal networks from kernel to rich: norms of the end against the start's scale, and the distance from least Q."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from rankward import results
from rankward.figures import reads_run_folders, style
from rankward.theory.diagonal import least_l1, least_l2, least_q

NORMS = {"l1": 1, "l2": 2}
DENSE = 120  # scales at which the curves of least Q are drawn


def curves(sweep: Path) -> pl.DataFrame:
    """A row for each run: its problem (by `observations.seed`) and scale, norms of its end over the least, distances.

    `distance` is |beta - beta_Q|_2 / |beta_Q|_2, where beta_Q is the vector of least Q, to a relative duality gap of
    1e-12. `least_l1` and `least_l2` are the norms that the ratios `l1` and `l2` are over.

    Raises:
        ResultsError: no finished run of a diagonal factorization of depth 2 on measurements of a vector.
    """
    rows = []
    for folder in results.run_folders(sweep):
        if not results.is_complete(folder) or results.read_summary(folder)["status"] not in results.ENDED:
            continue
        config, arrays = results.read_config(folder), results.read_arrays(folder)
        matrix, kinds = arrays.get("observations.matrices"), (config["factorization"]["name"], config["init"]["name"])
        if kinds != ("diagonal", "constant") or matrix is None or matrix.ndim != 2 or config["depth"]["layers"] != 2:
            continue
        beta, values, scale = arrays["product"], arrays["observations.values"], float(config["init"]["scale"])
        expected = least_q(matrix, values, scale).solution
        least = [np.linalg.norm(solve(matrix, values), p) for solve, p in ((least_l1, 1), (least_l2, 2))]
        rows.append(
            {
                "problem": int(config["observations"].get("seed") or 0),
                "scale": scale,
                "distance": float(np.linalg.norm(beta - expected) / np.linalg.norm(expected)),
                **{
                    name: float(np.linalg.norm(beta, p) / of)
                    for (name, p), of in zip(NORMS.items(), least, strict=True)
                },
                "least_l1": float(least[0]),
                "least_l2": float(least[1]),
                "matrix": matrix.tolist(),
                "values": values.tolist(),
            }
        )
    if not rows:
        why = "no finished run with factorization=diagonal, depth=2, init=constant and measurements of a vector"
        raise results.ResultsError(f"cannot draw diagonal_networks of {sweep}: {why}")
    return pl.DataFrame(rows).sort("problem", "scale")


def told(table: pl.DataFrame) -> str:
    """The largest distance from least Q, and the norms at both ends, over the least."""
    lines = [
        f"the ends of {len(table)} runs are within {table['distance'].to_numpy().max():.1e} of the vectors of least Q"
    ]
    scales = table["scale"].to_numpy()
    for scale in (scales.min(), scales.max()):
        part = table.filter(pl.col("scale") == scale)
        lines.append(
            f"scale {scale:g}: the l1 norm is at most {part['l1'].to_numpy().max():.4f} times the least one, "
            f"the l2 norm {part['l2'].to_numpy().max():.6f} times"
        )
    return "\n".join(lines)


@reads_run_folders
def draw(sweep: Path) -> list[Path]:
    """Draw the norms with the curves of least Q, and the distances.

    Raises:
        ResultsError: no run to draw, or files that cannot be written.
    """
    table = curves(sweep)
    return style.save_drawn(lambda: _figure(table), sweep, "diagonal_networks")


def _figure(table: pl.DataFrame) -> Figure:
    figure = Figure(figsize=(10.2, 3.4), layout="constrained")
    *norms, distance = figure.subplots(1, 3)
    for axis, (name, p) in zip(norms, NORMS.items(), strict=True):
        for number, (_, part) in enumerate(table.group_by("problem", maintain_order=True)):
            color = style.COLORS[number % len(style.COLORS)]
            matrix, values = (np.array(part[key][0].to_list()) for key in ("matrix", "values"))
            scales = part["scale"].to_numpy()
            grid = np.geomspace(scales.min(), scales.max(), DENSE)
            ratio = [np.linalg.norm(least_q(matrix, values, scale).solution, p) for scale in grid]
            label = {"label": "least Q"} if number == 0 else {}
            axis.plot(grid, np.array(ratio) / part[f"least_{name}"][0], color=color, lw=0.9, **label)
            axis.plot(part["scale"], part[name], "o", ms=3.5, color=color, label="flow" if number == 0 else None)
        axis.axhline(1, label=f"least {name} norm", **style.BOUND)
        axis.set(xscale="log", xlabel="scale of u and v at the start", ylabel=f"{name} norm over the least")
        axis.legend()
    for number, (_, part) in enumerate(table.group_by("problem", maintain_order=True)):
        look = {"marker": "o", "ms": 3.5, "lw": 0.8, "color": style.COLORS[number % len(style.COLORS)]}
        distance.plot(part["scale"], np.maximum(part["distance"], 1e-16), **look)
    distance.axhline(1e-6, **style.BOUND)
    distance.set(xscale="log", yscale="log", xlabel="scale of u and v at the start")
    distance.set_ylabel("relative distance from least Q")
    return figure
