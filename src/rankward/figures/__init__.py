"""Figures made from result files alone; one module a figure, with `draw(sweep)`; a user's own from the Python path."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

from rankward.config import ConfigError, nearest
from rankward.environment import import_matplotlib


def names() -> list[str]:
    """Figures that can be drawn."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "style" and not m.name.startswith("_"))


def check_name(name: str) -> None:
    """Refuse a figure that is not there; ours are not imported for it.

    Raises:
        ConfigError: as `figure`.
    """
    if name not in names():
        figure(name)


def figure(name: str) -> ModuleType:
    """The module of a figure: one of `names()`, or a user's own by its name on the Python path.

    Raises:
        ConfigError: no such module, naming the nearest; or one that cannot be imported or has no `draw`.
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


def needs_folders(name: str) -> bool:
    """Whether a figure reads runs' own folders, which a sweep in a table has not."""
    return bool(getattr(figure(name), "NEEDS_FOLDERS", False))


def draw(name: str, sweep: Path) -> list[Path]:
    """Draw a figure of a sweep into its `figures/` folder, and return the pictures' paths.

    Raises:
        ConfigError: no such figure.
        ResultsError: results that cannot be read, or pictures that cannot be written.
    """
    paths: list[Path] = figure(name).draw(sweep)
    return paths
