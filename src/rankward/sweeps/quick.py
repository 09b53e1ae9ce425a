"""Composing very many jobs: one of a kind by Hydra, the others by setting the same keys of what it made.

Such jobs choose the same groups and set the same keys, to other numbers and words; lists and keys further down are the
same too. Checks run as always, since a dataclass checks itself when it is made; what does not fit is composed by Hydra.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from rankward.config import RunConfig, run_config
from rankward.config.registry import config_hash
from rankward.sweeps.composing import Composer

FREE = ("seed", "max_iterations", "stop_loss", "lr.eta", "lr.beta", "lr.eps", "init.scale", "init.unbalance")


@dataclass(frozen=True)
class Made:
    """A job's config: checked, and as plain values.

    Args:
        run: its config.
        resolved: as plain nested values.
        kind: overrides that jobs have in common which can share an ensemble and of which one is checked for all.
    """

    run: RunConfig
    resolved: dict[str, Any]
    kind: tuple[str, ...]

    @property
    def digest(self) -> str:
        """The config's hash."""
        return config_hash(self.resolved)


class QuickComposer:
    """Composes jobs as `Composer` does, many times as fast where they are alike.

    Args:
        composer: that makes the first of them.
    """

    def __init__(self, composer: Composer) -> None:
        self.composer = composer
        self.models: dict[tuple[str, ...], Made | None] = {}  # None: Hydra's to compose, each of them

    def make(self, overrides: Sequence[str]) -> Made:
        """A job's config.

        Raises:
            ConfigError, HydraException, OmegaConfBaseException: as composing and checking do.
        """
        values, kind, shape = self._parts(overrides)
        model = self.models.get(shape)
        if model is not None:
            changed = _changed(model, values, kind)
            if changed is not None:
                return changed
        composed = self.composer.compose(overrides)
        made = Made(run_config(composed.own), composed.slim().resolved, kind)
        if shape not in self.models:
            follows = "${" in OmegaConf.to_yaml(composed.own)  # a value another's
            self.models[shape] = None if follows else made
        return made

    def _parts(self, overrides: Sequence[str]) -> tuple[list[tuple[str, Override]], tuple[str, ...], tuple[str, ...]]:
        """Overrides of values, what names the kind, and what names the model."""
        values: list[tuple[str, Override]] = []
        choices: list[str] = []
        kind: list[str] = []
        for text in overrides:
            parsed = self.composer.parse(text)
            if self.composer.is_value(parsed) and _is_simple(parsed):
                values.append((parsed.key_or_group, parsed))
            else:
                choices.append(text)
            if parsed.key_or_group not in FREE:
                kind.append(text)
        return values, tuple(kind), (*choices, *(key for key, _ in values))


def _is_simple(override: Override) -> bool:
    """Whether it sets a number or a word of a group or at the top, which `_changed` can change."""
    return override.key_or_group.count(".") < 2 and isinstance(override.value(), int | float | str)


def _changed(model: Made, values: Sequence[tuple[str, Override]], kind: tuple[str, ...]) -> Made | None:
    """The model with other values; None where one is of another type, so that OmegaConf should look at it."""
    top: dict[str, Any] = {}
    nodes: dict[str, dict[str, Any]] = {}
    resolved = dict(model.resolved)
    for key, override in values:
        group, _, leaf = key.partition(".")
        if group not in resolved:
            return None
        if leaf and (not is_dataclass(getattr(model.run, group)) or leaf not in resolved[group]):
            return None
        old = resolved[group][leaf] if leaf else resolved[group]
        value = override.value()
        if isinstance(old, float) and type(value) is int:
            value = float(value)
        if type(value) is not type(old):
            return None
        if leaf:
            nodes.setdefault(group, {})[leaf] = value
            resolved[group] = {**resolved[group], leaf: value}
        else:
            top[group] = resolved[group] = value
    made = {group: replace(getattr(model.run, group), **leaves) for group, leaves in nodes.items()}
    return Made(replace(model.run, **top, **made), resolved, kind)
