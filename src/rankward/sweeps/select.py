"""Select jobs of a sweep by values of their configs: `select.KEY=VALUES` on the command line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString

from rankward.config import ConfigError, nearest
from rankward.config.overrides import spaced
from rankward.results import flat
from rankward.terminal import say

MAX_VALUES = 12  # values of a key in a message
ABSENT = object()  # value of a key that a job does not have


class Selection:
    """Conditions on the configs of jobs; a job is selected if it meets all of them.

    Args:
        texts: `KEY=VALUES` each: a value, a list of them, or a range. A key names a value of the config, or a group,
            whose values are its choices.
        parser: Hydra's.

    Raises:
        ConfigError: an interval, which has infinitely many values.

    Example:
        >>> selection = Selection(["depth=2,3", "seed=7"], OverridesParser.create())
        >>> selection.indices([{"depth": {"name": depth}, "seed": 7} for depth in "1234"])
        [1, 2]
    """

    def __init__(self, texts: Sequence[str], parser: OverridesParser) -> None:
        self.texts = list(texts)
        self.wanted: list[tuple[str, list[Any]]] = []
        for override in parser.parse_overrides([spaced(text) for text in texts]):
            if override.is_sweep_override() and not override.is_discrete_sweep():
                allowed = "a value, a list, or range(...): an interval has infinitely many values"
                raise ConfigError(f"select.{override.get_key_element()}", override.input_line, allowed)
            values = override.sweep_iterator() if override.is_sweep_override() else [override.value()]
            self.wanted.append((override.get_key_element(), [_plain(value) for value in values]))

    def jobs(self, jobs: Sequence[list[str]], composer: Any) -> Sequence[list[str]]:
        """The selected jobs; a line says how many they are. All jobs if there are no conditions.

        A job whose config cannot be composed is selected: the check of the jobs reports it.

        Args:
            jobs: overrides of each.
            composer: a `QuickComposer`.

        Raises:
            ConfigError: as `indices`.
        """
        if not self.wanted:
            return jobs
        kept = [jobs[index] for index in self.indices(_configs(jobs, composer))]
        say(f"{len(kept):,} of {len(jobs):,} jobs selected")
        return kept

    def indices(self, configs: Iterable[Mapping[str, Any] | None]) -> list[int]:
        """Indices of the configs that meet all conditions, and of those that are None.

        Raises:
            ConfigError: a key or a value that no config has, or conditions that no config meets together.
        """
        kept: list[int] = []
        accepted = [(key, set().union(*map(_tokens, wanted))) for key, wanted in self.wanted]
        found: list[dict[str, Any]] = [{} for _ in self.wanted]  # values of each key in the configs, by their text
        known: set[str] = set()  # keys, as long as one is not found
        for index, config in enumerate(configs):
            if config is None:
                kept.append(index)
                continue
            meets = True
            for (key, tokens), seen in zip(accepted, found, strict=True):
                value = _value(config, key)
                if value is not ABSENT:
                    seen.setdefault(str(value), value)
                meets &= not tokens.isdisjoint(_tokens(value))
            if meets:
                kept.append(index)
            if not all(found):
                known.update(config, flat(config))
        for (key, wanted), seen in zip(self.wanted, found, strict=True):
            if not seen:
                raise ConfigError(f"select.{key}", _shown(wanted), "a key of the jobs' configs", nearest(key, known))
            tokens = set().union(*map(_tokens, seen.values()))
            if missing := [each for each in wanted if tokens.isdisjoint(_tokens(each))]:
                raise ConfigError(f"select.{key}", _shown(missing), f"values that jobs have: {_shown(seen.values())}")
        if not kept:
            raise ConfigError("select", " ".join(self.texts), "conditions that a job meets together")
        return kept


def _configs(jobs: Sequence[list[str]], composer: Any) -> Iterator[Mapping[str, Any] | None]:
    for job in jobs:
        try:
            yield composer.compose(job).resolved
        except Exception:  # composing can raise anything
            yield None


def _value(config: Mapping[str, Any], key: str) -> Any:
    """A value of a config; the choice of a group; ABSENT if the config does not have it."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part, ABSENT) if isinstance(value, Mapping) else ABSENT
    return value.get("name", ABSENT) if isinstance(value, Mapping) else value


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.text if isinstance(value, QuotedString) else value


def _tokens(value: Any) -> set[Any]:
    """A number and its text, or only the text of another value: equal values share one.

    Example:
        >>> [bool(_tokens(a) & _tokens(b)) for a, b in ((1, 1.0), (3, "3"), (True, 1), ([3, 3], [3, 3]), (None, None))]
        [True, True, False, True, True]
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return {str(value), value} if is_number else {str(value)}


def _shown(values: Any) -> str:
    texts = [str(value) for value in values]
    return ", ".join(texts[:MAX_VALUES]) + (f" and {len(texts) - MAX_VALUES} more" if len(texts) > MAX_VALUES else "")
