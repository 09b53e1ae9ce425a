"""Settings without effect: overrides of them are refused, and jobs that differ only in them are trained once."""

from __future__ import annotations

import hashlib
import json
import pkgutil
from collections.abc import Mapping, Sequence
from typing import Any

from rankward.config import ConfigError, RunConfig
from rankward.config.build import takes
from rankward.config.overrides import unquoted

REFUSED = ("depth", "init")  # groups; a seed without effect is accepted, because scripts give every run a seed


def unused(run: RunConfig) -> dict[str, str]:
    """The settings that have no effect on a run, with the reason.

    `depth` has none if the factorization has no layers; `init` and `seed` have none if its `start` is marked by
    `ignores_init`. The `_target_` of the factorization must be importable.
    """
    choice = run.factorization
    found = {} if takes(choice, "layers") else {"depth": f"factorization={choice.name} has no layers"}
    start = getattr(pkgutil.resolve_name(choice._target_), "start", None)
    if getattr(start, "ignores_init", False):
        without = ("init",) if run.optimizer.noise else ("init", "seed")  # noise has the run's seed
        found |= dict.fromkeys(without, f"factorization={choice.name} starts without it")
    return found


def refuse_unused(run: RunConfig, overrides: Sequence[str]) -> None:
    """Refuse overrides of a single run that have no effect.

    Raises:
        ConfigError: the first of them.
    """
    for error in unused_overrides([(run, overrides)]).values():
        raise error


def unused_overrides(jobs: Sequence[tuple[RunConfig, Sequence[str]]]) -> dict[int, ConfigError]:
    """Errors, by the job's index, of overrides that have no effect in any of these jobs.

    A grid may cross a setting with factorizations that use it and others that do not.

    Args:
        jobs: config and overrides of each.
    """
    reasons: dict[str, str] = {}
    without = [unused(run) for run, _ in jobs]
    for group in REFUSED:
        if jobs and all(group in each for each in without):
            reasons[group] = without[0][group]
    errors: dict[int, ConfigError] = {}
    for index, (run, overrides) in enumerate(jobs if reasons else ()):
        for text in overrides:
            key, _, value = unquoted(text).lstrip("+~").partition("=")
            group, _, leaf = key.partition("@")[0].partition(".")
            if group in reasons and index not in errors:
                shown = getattr(getattr(run, group), leaf, value) if leaf else value
                errors[index] = ConfigError(key, shown, f"no {group}, which has no effect: {reasons[group]}")
    return errors


def effective(run: RunConfig, resolved: Mapping[str, Any]) -> str:
    """Hash of all settings of a job but those without effect; empty if all have one.

    Jobs with the same hash leave the same trace and factors.

    Args:
        run: its config.
        resolved: the same as plain values.
    """
    without = unused(run)
    if not without:
        return ""
    settings = {key: value for key, value in resolved.items() if key not in without}
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
