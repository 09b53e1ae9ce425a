"""`rankward report FOLDER`: a sweep to explore in a browser, one file that needs no network."""

from __future__ import annotations

import base64
import gzip
from importlib.resources import files
from pathlib import Path
from typing import Any

from rankward import __version__, results
from rankward.report.collect import collect
from rankward.sweeps.command import original_command

REPORT = "report.html"
LIMIT = 5_000_000  # characters of a page
SCRIPTS = ("unpack", "runs", "table", "curves", "heatmap", "certificates", "run", "report")


def write_report(folder: Path, out: Path | None = None) -> tuple[Path, tuple[str, ...]]:
    """Write the report of a sweep, a single run or a folder of runs, whole or not at all.

    The same results give the same bytes.

    Args:
        folder: of a sweep, or of a run.
        out: the file; without it `report.html` in the folder.

    Returns:
        The file, and a sentence for everything that was left out to keep it below 5 MB.

    Raises:
        ResultsError: no runs there, results that cannot be read, or a file that cannot be written.
    """
    from plotly.offline import get_plotlyjs

    plotly = base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()
    scripts = "\n".join(asset(f"{name}.js") for name in SCRIPTS)
    around = {"title": folder.resolve().name, "command": original_command(folder), "version": __version__}
    around |= {"plotly": plotly, "style": asset("page.css"), "script": scripts}
    empty = page("report.html", **around, data="")
    report = collect(folder, LIMIT - len(empty))
    path = out or folder / REPORT
    text = page("report.html", **around, data=report.packed)
    try:
        results.write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    except results.ResultsError as error:
        if out is None and results.of_place(error):  # as in a colleague's folder
            raise results.ResultsError(f"{error}; --out FILE writes it elsewhere") from error
        raise
    return path, report.notes


def asset(name: str) -> str:
    """A file of `assets/`."""
    return files("rankward.report").joinpath("assets", name).read_text(encoding="utf-8")


def page(template: str, **values: Any) -> str:
    """A template of `assets/` filled in; values are escaped where it does not say otherwise.

    Raises:
        UndefinedError: a value that the template wants and was not given.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(asset(template)).render(**values)
