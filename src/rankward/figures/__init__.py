"""Figures made from result files alone; one module a figure, with a `draw(sweep)`."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from rankward.config import ConfigError, nearest


def names() -> list[str]:
    """Figures that can be drawn."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "style" and not m.name.startswith("_"))


def check_name(name: str) -> None:
    """Refuse a figure that is not there.

    Raises:
        ConfigError: naming the nearest.
    """
    if name not in names():
        raise ConfigError("figures", name, "one of " + ", ".join(names()), nearest(name, names()))


def draw(name: str, sweep: Path) -> list[Path]:
    """Draw a figure of a sweep into its `figures/` folder, and return the pictures' paths.

    Raises:
        ConfigError: no such figure.
        ResultsError: results that cannot be read, or pictures that cannot be written.
    """
    check_name(name)
    paths: list[Path] = importlib.import_module(f"rankward.figures.{name}").draw(sweep)
    return paths
