"""Destination of a run's loggers, and the error of a logger."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rankward.config import InputError, config_hash
from rankward.results import ResultsError, io_error, run_name


@dataclasses.dataclass(frozen=True)
class LogTarget:
    """Destinations of a run's results and loggers.

    Args:
        folder: of the run.
        shared: folder that holds its W&B run: the sweep's folder, or the run's.
        group: W&B group of a sweep; None for a single run.
        name: of the run on charts.
        config: resolved config.
        settings: overrides that distinguish the run from the others of its sweep.
    """

    folder: Path
    shared: Path
    group: str | None
    name: str
    config: dict[str, Any]
    settings: str = ""

    @property
    def run(self) -> str:
        """Name of the run within its sweep."""
        return run_name(self.shared, self.folder)

    @functools.cached_property
    def digest(self) -> str:
        """Hash of the config."""
        return config_hash(self.config)


class LoggerError(ResultsError):
    """A logger failed; one line with its key and the reason. The results of the run are not affected."""

    def __init__(self, name: str, error: BaseException) -> None:
        file = getattr(error, "filename", None)
        why = str(io_error("write", Path(file), error)) if file and isinstance(error, OSError) else first_line(error)
        super().__init__(f"logger.{name}: {why}")


@contextlib.contextmanager
def logger_errors(name: str) -> Iterator[None]:
    """Raise whatever a logger raises as a `LoggerError` with its name; an InputError passes."""
    try:
        yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise LoggerError(name, error) from error


def first_line(error: BaseException) -> str:
    """The first line of an error that is not empty, after the error's type.

    Example:
        >>> first_line(ValueError("\\nno server\\nat all"))
        'ValueError: no server'
    """
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return text if isinstance(error, ResultsError) else f"{type(error).__name__}: {text}"
