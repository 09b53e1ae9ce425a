"""The page: the paper's statements in order, each with what was run and what came out."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rankward import __version__, results
from rankward.paper.claim import Evidence, tried
from rankward.paper.conjectures import CONJECTURES, DYNAMICS
from rankward.paper.formulas import typeset
from rankward.paper.matrices import MATRICES
from rankward.paper.steps import FIGURES, PAPER, left_out, steps
from rankward.paper.tensors import TENSORS
from rankward.paper.theory import THEORY
from rankward.report.page import asset, page

CLAIMS = (*CONJECTURES, *THEORY, *MATRICES, *DYNAMICS, *TENSORS)


def write_page(out: Path, quick: bool, done: Mapping[str, Any]) -> Path:
    """Write `paper.html` from the files that the steps have left; one file, figures included, that needs no network.

    Args:
        done: the steps' records; those with a code other than 0 count as not run.

    Raises:
        ResultsError: files that cannot be read or written.
    """
    every = steps(quick)
    sound = {step.name for step in every if done.get(step.name, {}).get("code") == 0}
    evidence = Evidence(out, every, sound)
    claims = [tried(claim, evidence, trial) for claim, trial in CLAIMS]
    text = page(
        "paper.html",
        style=asset("page.css"),
        version=__version__,
        quick=quick,
        left_out=left_out(),
        claims=claims,
        commands=evidence.commands,
        typeset=typeset,
        seconds=sum(done[name]["seconds"] for name in sound),
        pictures={c.figure: _embedded(out / FIGURES / f"{c.figure}.svg") for c in claims if c.figure},
        kinds=("png", "svg", "pdf"),
    )
    results.write_atomic(out / PAPER, lambda path: path.write_text(text, encoding="utf-8"))
    return out / PAPER


def _embedded(picture: Path) -> str:
    try:
        return "data:image/svg+xml;base64," + base64.b64encode(picture.read_bytes()).decode()
    except OSError as error:
        raise results.io_error("read", picture, error) from error
