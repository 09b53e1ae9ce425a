"""The errors whose message is for the user. The command line prints it in one line and ends with the exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RankwardError(Exception):
    """A failure that its message explains; the base of all errors of Rankward's."""

    exit_code = 1


class InputError(RankwardError):
    """An error that the user can correct; the message is a plain sentence."""

    exit_code = 2


class ConfigError(InputError):
    """A value that is not allowed: its key, the value, and what is allowed.

    Example:
        >>> print(ConfigError("lr.eta", -1.0, "a positive number"))
        lr.eta: -1.0 is not allowed; expected a positive number
    """

    def __init__(self, key: str, value: object, allowed: str, hint: str = "") -> None:
        self.key = key
        self.value = value
        shown = repr(value) if isinstance(value, str) else str(value)
        super().__init__(f"{key}: {shown} is not allowed; expected {allowed}{hint}")


class DataError(InputError):
    """Observations, most often those of a file, that cannot be used; the message names the key."""


def other_config(key: str, folder: object, difference: str) -> ConfigError:
    """The error of a folder that has runs of another config; `key` names the folder."""
    return ConfigError(key, str(folder), f"a folder without runs of another config: {difference}; take another")


class SweepError(RankwardError):
    """Jobs of a sweep that cannot run (exit code 2) or that have failed (1), a line each."""

    def __init__(self, lines: list[str], exit_code: int = 2) -> None:
        self.lines = lines
        self.exit_code = exit_code
        super().__init__("\n".join(lines))


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the closest known name, or nothing where none is close.

    Example:
        >>> nearest("guassian", ["gaussian", "balanced"])
        " (did you mean 'gaussian'?)"
    """
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {matches[0]!r}?)" if matches else ""
