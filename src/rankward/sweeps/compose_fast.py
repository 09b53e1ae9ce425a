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
from rankward.config.groups import Own
from rankward.config.recording import DIGESTS, with_digests
from rankward.config.registry import config_hash
from rankward.results import flat
from rankward.sweeps.compose import Composed, Composer, Slim
from rankward.sweeps.settings import refuse_other, shared

FREE = ("seed", "max_iterations", "stop_loss", "lr.eta", "lr.beta", "lr.eps", "init.scale", "init.unbalance")
NODES = 10_000  # groups' nodes that are kept: those of a grid's axes are many times the same


@dataclass(frozen=True)
class Made:
    """A job's config: checked, and as plain values.

    Args:
        run: its config.
        composed: as plain nested values, and what its files are made of.
        flat: resolved values by dotted keys.
        kind: overrides that jobs have in common which can share an ensemble and of which one is checked for all.
    """

    run: RunConfig
    composed: Slim
    flat: dict[str, Any]
    kind: tuple[str, ...]

    @property
    def digest(self) -> str:
        """The config's hash."""
        return config_hash(self.composed.resolved)


@dataclass(frozen=True)
class _Setting:
    """An override: whether it sets a value that `QuickComposer` can set, of which group's key, to what."""

    parsed: Override
    simple: bool
    free: bool
    group: str
    leaf: str
    value: Any


class QuickComposer:
    """Composes jobs as `Composer` does, many times as fast where they are alike.

    Args:
        composer: that makes the first of them.
    """

    def __init__(self, composer: Composer) -> None:
        self.composer = composer
        self.of_sweep = shared(composer.master)
        self.given: Any = OmegaConf.to_container(composer.master.hydra.overrides.task, resolve=False)
        self.models: dict[tuple[str, ...], Made | None] = {}  # None: Hydra's to compose, each of them
        self._settings: dict[str, _Setting] = {}
        self._nodes: dict[tuple[Any, ...], tuple[Any, dict[str, Any]]] = {}

    def kind(self, overrides: Sequence[str]) -> tuple[str, ...]:
        """What the job has in common with those that can share its ensemble."""
        return tuple([text for text in overrides if not self._setting(text).free])

    def make(self, overrides: Sequence[str]) -> Made:
        """A job's config.

        Raises:
            ConfigError, HydraException, OmegaConfBaseException: as composing and checking do.
        """
        settings = [self._setting(text) for text in overrides]
        shape = tuple([each.parsed.key_or_group if each.simple else str(each.parsed.input_line) for each in settings])
        model = self.models.get(shape)
        if model is not None:
            changed = self._changed(model, shape, overrides, settings)
            if changed is not None:
                return changed
        composed = self.composer.compose(overrides)
        self._refuse_other(composed)
        run, slim = run_config(composed.own), composed.slim()
        made = Made(run, slim, flat(slim.resolved), self.kind(overrides))
        if shape not in self.models:
            follows = composed.asks_hydra or "${" in OmegaConf.to_yaml(composed.own)  # a value another's
            self.models[shape] = None if follows else made
        return made

    def _refuse_other(self, composed: Composed) -> None:
        """Refuse a job that sets what its sweep has one of."""
        of_job = shared(composed.whole) | {key: value for key, value in shared(composed.own).items() if "." not in key}
        refuse_other(self.of_sweep, of_job, [text for text in composed.overrides if text not in self.given])

    def _setting(self, text: str) -> _Setting:
        known = self._settings.get(text)
        if known is None:
            parsed = self.composer.parse(text)
            key = parsed.key_or_group
            group, _, leaf = key.partition(".")
            value = parsed.value()
            simple = self.composer.is_value(parsed) and "." not in leaf and isinstance(value, int | float | str)
            known = self._settings[text] = _Setting(parsed, simple, key in FREE, group, leaf, value)
        return known

    def _changed(
        self, model: Made, shape: tuple[str, ...], overrides: Sequence[str], settings: Sequence[_Setting]
    ) -> Made | None:
        """The model with other values; None where one is of another type, so that OmegaConf should look at it."""
        top: dict[str, Any] = {}
        leaves: dict[str, dict[str, Any]] = {}
        resolved, flattened = dict(model.composed.resolved), dict(model.flat)
        for each in settings:
            if not each.simple:
                continue
            group, leaf, value = each.group, each.leaf, each.value
            old = model.composed.resolved.get(group)
            if leaf:
                node = getattr(model.run, group, None)
                if not is_dataclass(node) or isinstance(node, Own) or not isinstance(old, dict) or leaf not in old:
                    return None
                old = old[leaf]
            if type(old) is float and type(value) is int:
                value = float(value)
            if type(value) is not type(old):
                return None
            if leaf:
                leaves.setdefault(group, {})[leaf] = value
                flattened[f"{group}.{leaf}"] = value
            else:
                top[group] = resolved[group] = flattened[group] = value
        for group, values in leaves.items():
            top[group], resolved[group] = self._node(model, shape, group, values)
            if group == "observations" and DIGESTS in {**model.composed.resolved[group], **resolved[group]}:
                flattened = {key: each for key, each in flattened.items() if not key.startswith(f"{group}.{DIGESTS}.")}
                flattened |= flat({DIGESTS: resolved[group].get(DIGESTS, {})}, f"{group}.")
        composed = replace(
            model.composed,
            overrides=list(overrides),
            recorded=resolved,
            resolved=resolved,
            parsed=[each.parsed for each in settings],
        )
        return Made(replace(model.run, **top), composed, flattened, self.kind(overrides))

    def _node(
        self, model: Made, shape: tuple[str, ...], group: str, values: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """A group of the model with other values, checked, and as plain values; the same for the same values."""
        key = (shape, group, *values.values())
        if key not in self._nodes:
            if len(self._nodes) >= NODES:
                self._nodes.clear()
            plain = {**model.composed.resolved[group], **values}
            plain = with_digests(plain) if group == "observations" else plain
            self._nodes[key] = replace(getattr(model.run, group), **values), plain
        return self._nodes[key]
