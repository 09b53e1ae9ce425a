"""A statement of the paper with its test: runs, results, verdict, and differences from the published result."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankward import results
from rankward.paper.steps import SWEEPS, Step
from rankward.theory.certificates import HOLDS as HOLDS
from rankward.theory.certificates import VIOLATED as VIOLATED

if TYPE_CHECKING:
    import polars as pl

PART, FAILS, NOT_RUN, EVIDENCE = "in part", "fails", "not run", "evidence only"  # beside the verdicts of certificates


@dataclass(frozen=True)
class Claim:
    """A statement or figure and the result of its test.

    Args:
        name: as in the paper.
        section: where it stands there.
        says: it, in a line.
        needs: names of the steps whose results it reads.
        rule: how the verdict follows from the numbers, thresholds included.
        omits: what the trial does not cover.
        basis: on what the verdict rests, in a few words: certified intervals, all cases, or so many runs.
        verdict: `holds`, `violated` (of a proven statement), `fails` (of a conjecture), `in part`, `not run`, or
            `evidence only` (the paper claims nothing).
        trials: what was tried, and how often.
        found: sentences with the numbers that came out.
        header, rows: a table of them.
        figure: name of a picture.
        published: of each number that was published: its name, that number, and ours.
        differs: where our result differs from the published one, and why.
    """

    name: str
    section: str
    says: str
    needs: tuple[str, ...]
    rule: str
    omits: str
    verdict: str = NOT_RUN
    basis: str = ""
    trials: str = ""
    found: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    figure: str = ""
    published: tuple[tuple[str, str, str], ...] = ()
    differs: tuple[str, ...] = ()


class Evidence:
    """Results of the steps in the folder of a paper.

    Args:
        out: the folder.
        every: the steps of this paper.
        done: names of those that are done.
    """

    def __init__(self, out: Path, every: Sequence[Step], done: set[str]) -> None:
        self.out, self.done = out, done
        self.commands = {step.name: step.command for step in every}

    def runs(self, step: str) -> pl.DataFrame:
        """The table of a step's sweep."""
        return results.gather(self.out / SWEEPS / step)

    def sweep(self, step: str) -> Path:
        """A step's folder."""
        return self.out / SWEEPS / step

    def stored(self, name: str) -> Any:
        """The JSON result of a step.

        Raises:
            ResultsError: it cannot be read.
        """
        path = self.out / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise results.io_error("read", path, error) from error


Trial = Callable[[Evidence], dict[str, Any]]  # fields of the claim that its results fill in


def tried(claim: Claim, evidence: Evidence, trial: Trial) -> Claim:
    """The claim with its results, or `not run` with the reason if a step that it needs is not done."""
    missing = [name for name in claim.needs if name not in evidence.done]
    if missing:
        return replace(claim, found=(f"Not done: {', '.join(missing)}.",))
    return replace(claim, **trial(evidence))


def number(value: Any, digits: int = 4) -> str:
    """Format a number of a result file with `digits` significant digits; texts are unchanged.

    Example:
        >>> number(70.696675), number(1e-6), number(3616350), number(None), number("depth")
        ('70.7', '1e-6', '3,616,350', '–', 'depth')
    """
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return re.sub(r"e([-+])0", r"e\1", f"{value:.{digits}g}") if isinstance(value, float) else str(value)


def span(values: Sequence[float]) -> str:
    """Format the range from the smallest to the largest value.

    Example:
        >>> span([8.2126, 8.86481]), span([1.0, 1.0])
        ('8.213 to 8.865', '1')
    """
    low, high = number(float(min(values))), number(float(max(values)))
    return low if low == high else f"{low} to {high}"
