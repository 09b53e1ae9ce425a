"""Baseline solutions of the problems of finished runs, next to the ends of these runs: `rankward baseline`."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from rankward import results
from rankward.config import InputError
from rankward.linalg import one_thread
from rankward.metrics.functional import effective_rank, masked_rmse, reconstruction_error, schatten_norm
from rankward.terminal import align
from rankward.theory.baselines import nuclear_completion
from rankward.theory.heldout import LARGEST
from rankward.theory.low_rank import best_fits, greedy, least_schatten

COLUMNS_OF_DEPTHS = 4  # of more depths, the table has the median over all runs; the file has every run
GREEDY = "greedy, step"
LOCAL = "local minimum"
NAN = float("nan")


@dataclass(frozen=True)
class Run:
    """The end of a run, and its trace. `half_sums` is Equation 1 over the run's loss; NaN for other losses."""

    name: str
    depth: float
    product: np.ndarray
    iteration: np.ndarray
    loss: np.ndarray
    half_sums: float

    def passes(self, loss: float) -> float:
        """The iteration of the first row whose loss, as Equation 1, is below this one; NaN where there is none."""
        rows = np.flatnonzero(self.loss * self.half_sums < loss)
        return float(self.iteration[rows[0]]) if len(rows) else NAN


@dataclass(frozen=True)
class Problem:
    """Observed entries in the units that are trained on, with the runs that observe them.

    Args:
        scale: of the data's own units, in which errors are.
    """

    mask: np.ndarray
    values: np.ndarray
    truth: np.ndarray | None
    heldout: tuple[np.ndarray, np.ndarray] | None
    scale: float
    runs: list[Run] = field(default_factory=list)


def compare(folder: Path, starts: int = 5, most: int = 10, out: Path | None = None) -> Iterator[str]:
    """Lines of a table for each problem of a run or sweep; at the end, a JSON file with every number.

    Runs that observe the same entries and values share a problem, which is solved once. The solutions of a matrix with
    observed entries are: zero at the unobserved entries (least Frobenius norm); least nuclear norm, with its relative
    duality gap; least Schatten-2/L for each depth L of the runs other than 1 and 2; the best fit of each rank; and the
    steps of greedy low-rank learning. Depths count for chains (`factorization=matrix`) alone.

    Args:
        folder: of a run or a sweep.
        starts: of the fits of each rank and of least Schatten-2/L, which are local minima.
        most: the largest rank of fits and steps.
        out: None: `baselines.json` in the folder.

    Raises:
        InputError: no run with a finite matrix of at most 10,000 entries and a mask of observed ones.
        ResultsError: the file cannot be written.
    """
    if results.is_table(folder):
        raise InputError(f"baseline: {str(folder)!r} has one table for all runs, without products; use results=folders")
    out = folder / results.BASELINES if out is None else out
    problems, left_out = _problems(folder)
    missing = "; ".join(f"{count} {'run' if count == 1 else 'runs'}: {why}" for why, count in left_out.items())
    if not problems:
        raise InputError(f"baseline: {str(folder)!r} has no run to compare: {missing or 'it has no runs'}")
    found = []
    for number, problem in enumerate(problems, 1):
        with one_thread(), threadpool_limits(1, user_api="blas"):  # the order of sums depends on the number of threads
            solved = _solved(problem, starts, most)
        found.append(solved)
        yield from _lines(f"problem {number} of {len(problems)}", problem, solved, starts, most)
        yield ""
    if missing:
        yield f"left out: {missing}"
    text = json.dumps({"starts": starts, "problems": found}, indent=2) + "\n"
    results.write_atomic(out, lambda path: path.write_text(text, encoding="utf-8"))
    yield f"baselines: {out}"


def _problems(folder: Path) -> tuple[list[Problem], Counter[str]]:
    problems: dict[tuple[bytes | None, ...], Problem] = {}
    left_out: Counter[str] = Counter()
    for path in results.run_folders(folder):
        try:
            results.read_summary(path)
            arrays, trace, config = results.read_arrays(path), results.read_trace(path), results.read_config(path)
        except results.ResultsError:
            left_out["no results, or some that cannot be read"] += 1
            continue
        mask, product = arrays.get("observations.mask"), arrays.get("product")
        if mask is None or product is None or mask.ndim != 2:
            left_out["not a matrix with a mask of observed entries"] += 1
        elif mask.size > LARGEST:
            left_out[f"more than {LARGEST:,} entries"] += 1
        elif not np.isfinite(product).all():
            left_out["its product is not finite"] += 1
        else:
            values = np.where(mask, arrays["observations.values"], 0.0).astype(np.float64)
            truth, scale = arrays.get("ground_truth"), float(arrays.get("units.scale", 1.0))
            heldout = (arrays["heldout.mask"], arrays["heldout.values"]) if "heldout.mask" in arrays else None
            parts = [mask, values, truth, *(heldout or (None, None)), np.array(scale)]
            key = (str(mask.shape).encode(), *(None if part is None else part.tobytes() for part in parts))
            problem = problems.setdefault(key, Problem(mask, values, truth, heldout, scale))
            rows = trace["iteration"].to_numpy() > int(arrays.get("first.until", -1))  # before: other values
            chain = config.get("factorization", {}).get("name") == "matrix"
            problem.runs.append(
                Run(
                    results.run_name(folder, path),
                    float(config["depth"]["layers"]) if chain else NAN,
                    product.astype(np.float64),
                    trace["iteration"].to_numpy()[rows],
                    trace["loss"].to_numpy()[rows],
                    results.half_sums(trace["loss"][-1], arrays, config.get("loss", {})),
                )
            )
    return list(problems.values()), left_out


def _solved(problem: Problem, starts: int, most: int) -> dict[str, Any]:
    """The part of the file that belongs to a problem."""
    mask, values = problem.mask, problem.values
    depths = sorted({run.depth for run in problem.runs if not math.isnan(run.depth)} - {1.0, 2.0})
    nuclear = nuclear_completion(mask[None], values[None])
    found: list[tuple[np.ndarray, dict[str, Any]]] = [
        (values, {"solution": "least Frobenius norm", "kind": "exact"}),
        (nuclear.matrix[0], {"solution": "least nuclear norm", "kind": "certified", "gap": float(nuclear.gap[0])}),
    ]
    for depth in depths:
        kind = LOCAL if depth > 2 else "convex"
        about = {"solution": f"least Schatten-2/{depth:g}", "kind": kind}
        found.append((least_schatten(mask, values, 2 / depth, starts), about))
    fits = [("best rank", LOCAL, fit) for fit in best_fits(mask, values, starts, most)]
    fits += [(GREEDY, "from the last step", fit) for fit in greedy(mask, values, most)]
    for name, kind, fit in fits:
        found.append((fit.matrix, {"solution": name, "kind": kind, "rank": fit.rank, "stationary": fit.stationary}))
    solutions: list[dict[str, Any]] = []
    for matrix, about in found:
        measured = _measured(problem, matrix, depths)
        row = {**about, **measured}
        row["distance"] = {run.name: float(np.linalg.norm(run.product - matrix)) for run in problem.runs}
        if about["solution"] == GREEDY:
            row["passed_at"] = {run.name: run.passes(measured["loss"]) for run in problem.runs}
        solutions.append(row)
    ends = {run.name: {"depth": run.depth, **_measured(problem, run.product, depths)} for run in problem.runs}
    return {"dims": list(mask.shape), "observed": int(mask.sum()), "solutions": solutions, "runs": ends}


def _measured(problem: Problem, matrix: np.ndarray, depths: Sequence[float]) -> dict[str, float]:
    batch = torch.from_numpy(matrix)[None]
    found = {
        "loss": float((np.where(problem.mask, matrix - problem.values, 0.0) ** 2).sum()) / 2,
        "nuclear_norm": schatten_norm(batch, 1).item(),
        "frobenius_norm": schatten_norm(batch, 2).item(),
        "effective_rank": effective_rank(batch).item(),
    }
    for depth in depths:
        found[f"schatten_2/{depth:g}"] = schatten_norm(batch, 2 / depth).item()
    if problem.truth is not None:
        truth = torch.from_numpy(problem.truth.astype(np.float64))
        found["error"] = problem.scale * reconstruction_error(batch, truth[None]).item()
    if problem.heldout is not None:
        mask, values = (torch.from_numpy(array)[None] for array in problem.heldout)
        found["heldout_rmse"] = problem.scale * masked_rmse(batch, values.double(), mask).item()
    return found


def _lines(title: str, problem: Problem, solved: Mapping[str, Any], starts: int, most: int) -> Iterator[str]:
    runs, solutions = problem.runs, solved["solutions"]
    rows, cols = problem.mask.shape
    count = f"{len(runs):,} runs" if len(runs) > 1 else f"run {runs[0].name}"
    yield f"{title}: {rows} x {cols}, {solved['observed']:,} entries observed, {count}"
    groups = _groups(runs)
    measures = list(solved["runs"][runs[0].name])[1:]  # after the depth
    head = ["", *(name.replace("_", " ") for name in measures)]
    table = [[*head, *(f"distance{of}" for of in groups), *(f"passed at{of}" for of in groups)]]
    for row in solutions:
        mark = "" if row.get("stationary", True) else " *"
        name = f"{row['solution']} {row['rank']}" if "rank" in row else row["solution"]
        cells = [name + mark, *(_text(row[name]) for name in measures)]
        cells += [_text(_median([row["distance"][name] for name in names])) for names in groups.values()]
        passed = row.get("passed_at", {})
        cells += [_text(_median([passed.get(name, NAN) for name in names])) for names in groups.values()]
        table.append(cells)
    for of, names in groups.items():
        ends = [solved["runs"][name] for name in names]
        cells = [f"end of {'the run' if len(names) == 1 else f'{len(names):,} runs'}{of}"]
        cells += [_text(_median([end[name] for end in ends])) for name in measures]
        table.append([*cells, *[""] * (2 * len(groups))])
    yield from align(table)
    gap = next(row["gap"] for row in solutions if "gap" in row)
    yield f"least nuclear norm: relative duality gap {gap:.1e}"
    local = ", ".join(dict.fromkeys(row["solution"] for row in solutions if row["kind"] == LOCAL))
    count = f"best of {starts} {'start' if starts == 1 else 'starts'}"
    if local:
        yield f"{local}: local minimum, {count}; greedy: each step from the end of the last one"
    if most < min(rows, cols) and any(row.get("rank") == most for row in solutions):
        yield f"ranks end at --ranks={most}"
    if not all(row.get("stationary", True) for row in solutions):
        yield "*: the gradient is not zero where the solver stopped; entries may grow without end"
    if len(runs) > 1:
        yield "distances, iterations and ends are medians over runs; the file has each"


def _groups(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Names of runs by the words of their column: by depth if there are few."""
    depths = sorted({run.depth for run in runs})
    if not 1 < len(depths) <= COLUMNS_OF_DEPTHS or any(map(math.isnan, depths)):
        return {"": [run.name for run in runs]}
    return {f", depth {depth:g}": [run.name for run in runs if run.depth == depth] for depth in depths}


def _median(numbers: Sequence[float]) -> float:
    """The median, in which a number that is missing (NaN) counts as infinite; NaN if that is infinite."""
    found = float(np.median([math.inf if math.isnan(number) else number for number in numbers]))
    return found if math.isfinite(found) else NAN


def _text(number: float) -> str:
    return "-" if math.isnan(number) else f"{number:.4g}"
