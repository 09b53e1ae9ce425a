"""The config that a run's folder keeps, with the values taken from the environment and the digests of data files."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rankward.config.choices import HOLDOUT, LATER, NOISE, RESERVED, WORDS
from rankward.config.overrides import as_value

OPEN = re.compile(r"(?<!\\)\$\{[^{}]*:")  # a value from outside the config: ${oc.env:HOME}, ${now:%H}
OF_JOB = re.compile(r"\$\{hydra:(?!runtime\.cwd\})")  # a value of Hydra's, which may differ between jobs
PRIVATE = "logger"  # its settings may be passwords: they are kept as the user wrote them
DIGESTS = "file_sha256"
LENGTH = 16  # of a digest, in hex digits
UNSET: Mapping[str, Mapping[str, Any]] = {
    "observations": dict.fromkeys(HOLDOUT),
    "optimizer": NOISE,
    "lr": {"coordinates": "factors"},
    "record": {"product": False},
}  # keys that were added to groups, and their values when off
UNSET_STOPS = {"stop_heldout": None, "stop_plateau": {"window": None, "tolerance": None}}


def resolved(own: DictConfig) -> dict[str, Any]:
    """Plain, resolved values of a composed config without Hydra's part, with digests of the files of its observations.

    `observations.file_sha256` has the first sixteen hex digits of each file's SHA-256, by the key that names the file.
    A config that names no file has no such key.
    """
    plain = without_unset(plain_values(own, resolve=True))
    if "observations" in plain:
        plain["observations"] = with_digests(plain["observations"])
    return plain


def recorded(own: DictConfig, values: Mapping[str, Any]) -> dict[str, Any]:
    """The config as a run's folder keeps it: as written, but with the current values of `${...:...}`, and with digests.

    Args:
        own: the composed config without Hydra's part.
        values: the same config, `resolved`.
    """
    plain = without_unset(plain_values(own))
    kept = {key: value if key == PRIVATE else _closed(value, values[key]) for key, value in plain.items()}
    if isinstance(values.get("observations"), Mapping) and DIGESTS in values["observations"]:
        kept["observations"] = {**kept["observations"], DIGESTS: values["observations"][DIGESTS]}
    return kept


def plain_values(own: DictConfig, resolve: bool = False) -> dict[str, Any]:
    """The plain values of a config, as written or resolved."""
    container = OmegaConf.to_container(own, resolve=resolve, enum_to_str=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def without_unset(config: dict[str, Any]) -> dict[str, Any]:
    """A config without the later keys (`UNSET`, `UNSET_STOPS`) that are off, as in configs that had no such keys.

    Example:
        >>> without_unset({"seed": 0, "observations": {"count": None, "holdout": None, "holdout_seed": None}})
        {'seed': 0, 'observations': {'count': None}}
        >>> without_unset({"optimizer": {"name": "adam", "label_noise": 0.0, "gradient_noise": 0.1, "batch": None}})
        {'optimizer': {'name': 'adam', 'gradient_noise': 0.1}}
    """
    config = without(config, UNSET_STOPS)
    for group, off in UNSET.items():
        if isinstance(keys := config.get(group), Mapping):
            off = {**off, **dict.fromkeys(LATER)} if group == "observations" and _is_ours(keys) else off
            config[group] = without(keys, off)
    return config


def without(config: Mapping[str, Any], off: Mapping[str, Any]) -> dict[str, Any]:
    """The keys and values of a config without those of `off`."""
    return {key: value for key, value in config.items() if key not in off or value != off[key]}


def _is_ours(observations: Mapping[str, Any]) -> bool:
    """Whether observations are Rankward's, not those of a user's function, whose arguments may have any names."""
    return str(observations.get("_target_")).startswith("rankward.observations.")


def _closed(written: Any, value: Any) -> Any:
    """A config as written, in which the value replaces each text that takes it from outside the config."""
    if isinstance(written, dict) and isinstance(value, dict):
        return {key: _closed(each, value[key]) for key, each in written.items()}
    if isinstance(written, list) and isinstance(value, list):
        return [_closed(*both) for both in zip(written, value, strict=True)]
    return value if isinstance(written, str) and OPEN.search(written) else written


def with_digests(observations: Any) -> Any:
    """Add digests of the files that observations name; observations without a file stay as they are."""
    if not isinstance(observations, Mapping):
        return observations
    plain = {key: value for key, value in observations.items() if key != DIGESTS}
    others = RESERVED + ((*LATER, *WORDS) if _is_ours(plain) else ())
    named = {key: value for key, value in plain.items() if key not in others and isinstance(value, str)}
    found = {key: digest for key, value in named.items() if (digest := file_digest(value))}
    return plain | {DIGESTS: found} if found else plain


def file_digest(path: str) -> str:
    """The first hex digits of a file's SHA-256; an empty text where there is no such file, or where it cannot be read.

    Example:
        >>> file_digest("no such file")
        ''
    """
    with contextlib.suppress(OSError, ValueError):  # a text that cannot be a path
        file = Path(path).expanduser().absolute()
        if file.is_file():
            state = file.stat()
            return _digest(file, (state.st_ino, state.st_size, state.st_mtime_ns))
    return ""


@functools.lru_cache(maxsize=4096)
def _digest(file: Path, state: tuple[int, ...]) -> str:
    """The digest of a file, computed once for each state of the file: thousands of runs may share it."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:LENGTH]


def changed_file(observations: Any) -> str:
    """The key of a file that no longer has its digest, as where it changed while a run waited; else an empty text."""
    known = observations.get(DIGESTS, {}) if isinstance(observations, Mapping) else {}
    return next((key for key, digest in known.items() if file_digest(observations[key]) != digest), "")


def as_written(overrides: Any) -> list[str]:
    """Overrides that Hydra has stored in a config, with their `${...}` unresolved.

    Example:
        >>> as_written(OmegaConf.create(["seed=${oc.env:S}"]))
        ['seed=${oc.env:S}']
    """
    return [str(text) for text in OmegaConf.to_container(overrides, resolve=False) or ()]


def open_choices(overrides: Sequence[str], choices: Mapping[str, Any]) -> dict[str, str]:
    """The choices of groups that overrides take from outside the config.

    Args:
        overrides: those of a command line.
        choices: the choices that Hydra has made, by group.

    Example:
        >>> open_choices(["depth=${oc.env:D}", "lr=flow"], {"depth": "2", "lr": "flow"})
        {'depth': '2'}
    """
    found = {text.partition("=")[0].lstrip("+"): text for text in overrides if OPEN.search(text)}
    return {key: str(choices[key]) for key in found if isinstance(choices.get(key), str)}


def open_values(own: DictConfig) -> dict[str, Any]:
    """Current values of `${...:...}` by dotted key, without those of loggers and those that differ between jobs.

    Example:
        >>> import os
        >>> os.environ["RANKWARD_DOCTEST"] = "7"
        >>> open_values(OmegaConf.create({"seed": "${oc.env:RANKWARD_DOCTEST}", "depth": "${seed}"}))
        {'seed': '7'}
    """
    found = {}
    for key, text in _texts("", {key: each for key, each in plain_values(own).items() if key != PRIVATE}):
        if OPEN.search(text) and not OF_JOB.search(text):
            with contextlib.suppress(OmegaConfBaseException):  # it depends on a value that a job will set
                value = OmegaConf.select(own, key)
                found[key] = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    return found


def _texts(prefix: str, node: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The texts of a config by dotted key; a list is one text."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _texts(f"{prefix}{key}.", value)
        elif isinstance(value, str | list):
            yield f"{prefix}{key}", str(value)


def closed(overrides: Sequence[str], values: Mapping[str, Any]) -> list[str]:
    """Overrides that set these values: each replaces the override of the same key, and the others follow at the end.

    Example:
        >>> closed(["seed=${oc.env:S}", "depth='2'"], {"seed": 7, "init.scale": 0.1})
        ['seed=7', "depth='2'", 'init.scale=0.1']
    """
    left = dict(values)
    made = []
    for override in overrides:
        key = override.partition("=")[0]
        name = key.lstrip("+")
        made.append(f"{key}={as_value(left.pop(name))}" if name in left else override)
    return [*made, *(f"{key}={as_value(value)}" for key, value in left.items())]
