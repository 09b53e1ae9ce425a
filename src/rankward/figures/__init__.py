"""Figures drawn from result files alone. Each is a module with `draw(sweep)`, here or on the Python path."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from rankward.config import ConfigError, nearest
from rankward.environment import import_matplotlib


def names() -> list[str]:
    """Figures that can be drawn."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "style" and not m.name.startswith("_"))


def check_name(name: str) -> None:
    """Refuse a figure that does not exist, without importing Rankward's own figures.

    Raises:
        ConfigError: as `figure`.
    """
    if name not in names():
        figure(name)


def figure(name: str) -> ModuleType:
    """Import the module of a figure: one of `names()`, or a user's module on the Python path.

    Raises:
        ConfigError: the module does not exist (the message names the nearest), cannot be imported, or has no `draw`.
    """
    import_matplotlib()
    if name in names():
        return importlib.import_module(f"rankward.figures.{name}")
    allowed = f"one of {', '.join(names())}, or a module of your own with draw(sweep)"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ConfigError("figures", name, f"a module that can be imported: {error}") from error
        raise ConfigError("figures", name, allowed, nearest(name, names())) from error
    except Exception as error:  # whatever the user's module raises
        raise ConfigError("figures", name, f"a module that can be imported: {type(error).__name__}: {error}") from error
    if not callable(getattr(module, "draw", None)):
        raise ConfigError("figures", name, allowed, nearest(name, names()))
    return module


Draw = Callable[[Path], list[Path]]


def reads_run_folders(draw: Draw) -> Draw:
    """Mark a `draw` that reads the folders of runs, which a sweep with `results=table` does not have."""
    draw.__dict__["reads_run_folders"] = True
    return draw


def needs_folders(name: str) -> bool:
    """Whether a figure reads the folders of runs; see `reads_run_folders`."""
    return hasattr(figure(name).draw, "reads_run_folders")


def draw(name: str, sweep: Path) -> list[Path]:
    """Draw a figure of a sweep into its `figures/` folder and return the paths of the pictures.

    Raises:
        ConfigError: the figure does not exist.
        ResultsError: results cannot be read, or pictures cannot be written.
    """
    paths: list[Path] = figure(name).draw(sweep)
    return paths
