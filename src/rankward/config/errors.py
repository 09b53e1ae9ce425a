"""One error for everything a user can get wrong, and the words to say it in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """A setting that cannot be run: the key, what it was, and what is allowed.

    Example:
        >>> print(ConfigError("lr.eta", -1.0, "a positive number"))
        lr.eta: -1.0 is not allowed; expected a positive number
    """

    def __init__(self, key: str, value: object, allowed: str, hint: str = "") -> None:
        self.key = key
        self.value = value
        shown = repr(value) if isinstance(value, str) else str(value)
        super().__init__(f"{key}: {shown} is not allowed; expected {allowed}{hint}")


class DataError(ValueError):
    """Observations (most often a file's) that cannot be used; one line that names the key."""


class SweepError(ConfigError):
    """Jobs of a sweep that cannot run (exit code 2) or have failed (1), one line each."""

    def __init__(self, lines: list[str], code: int = 2) -> None:
        self.lines = lines
        self.code = code
        ValueError.__init__(self, "\n".join(lines))


class UsageError(ConfigError):
    """A command that was given what it does not take, and how it is used."""

    def __init__(self, command: str, message: str, usage: str) -> None:
        ValueError.__init__(self, f"{command}: {message}; usage: {usage}")


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the closest known name, or nothing where none is close.

    Example:
        >>> nearest("guassian", ["gaussian", "balanced"])
        " (did you mean 'gaussian'?)"
    """
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {matches[0]!r}?)" if matches else ""
