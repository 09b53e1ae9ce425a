"""`rankward report FOLDER`: one HTML file to explore a sweep in a browser, without a network."""

from __future__ import annotations

import base64
import gzip
from importlib.resources import files
from pathlib import Path
from typing import Any

from rankward import __version__, results
from rankward.config.extras import require
from rankward.report.collect import collect
from rankward.sweeps.command import original_command

REPORT = "report.html"
LIMIT = 5_000_000  # characters of a page
SCRIPTS = (
    "unpack",
    "runs",
    "table",
    "chart",
    "bands",
    "curves",
    "last",
    "heatmap",
    "certificates",
    "run",
    "state",
    "report",
)


def write_report(folder: Path, out: Path | None = None) -> tuple[Path, tuple[str, ...]]:
    """Write the report of a sweep, a single run or a folder of runs, atomically.

    The same results give the same bytes.

    Args:
        folder: of a sweep or a run.
        out: the file; by default `report.html` in the folder.

    Returns:
        The file, and a sentence for each part that was left out to keep it below 5 MB.

    Raises:
        MissingPackage: the extra `report` is not installed.
        ResultsError: there are no runs, results cannot be read, or the file cannot be written.
    """
    require("report", "rankward report")
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
        results.write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    except results.ResultsError as error:
        if out is None and results.is_storage_error(error):  # as in a colleague's folder
            raise results.ResultsError(f"{error}; --out FILE writes it elsewhere") from error
        raise
    return path, report.notes


def asset(name: str) -> str:
    """Text of a file of `assets/`."""
    return files("rankward.report").joinpath("assets", name).read_text(encoding="utf-8")


def page(template: str, **values: Any) -> str:
    """Render a template of `assets/`. Values are escaped unless the template marks them as safe.

    Raises:
        UndefinedError: the template needs a value that is missing.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(asset(template)).render(**values)
