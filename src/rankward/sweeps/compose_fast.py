"""Compose very many jobs: one job of each shape by `Composer`, the others by setting the same keys of its result.

Jobs of the same shape choose the same groups and set the same keys, to other numbers and words. Lists and nested keys
are the same in all of them. Every job is checked, since a dataclass checks itself when it is made. A job that does not
fit is composed by `Composer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from rankward.config.groups import Own
from rankward.config.recording import as_written, with_digests
from rankward.sweeps.compose import ComposedConfig, ComposedJob, Composer
from rankward.sweeps.settings import refuse_per_job_settings, shared_settings

# Keys whose values do not decide which jobs can share an ensemble.
FREE = ("seed", "max_iterations", "stop_loss", "lr.eta", "lr.beta", "lr.eps", "init.scale", "init.unbalance")
MAX_NODES = 10_000  # cached configs of groups: the axes of a grid repeat the same ones many times


@dataclass(frozen=True)
class _Setting:
    """A parsed override: its group, its key in the group and its value.

    Args:
        simple: whether `QuickComposer` can set the value.
        free: whether the key is in `FREE`.
    """

    parsed: Override
    simple: bool
    free: bool
    group: str
    leaf: str
    value: Any


class QuickComposer:
    """Composes jobs as `Composer` does, and many times as fast if they have the same shape.

    Args:
        composer: for the first job of each shape.
    """

    def __init__(self, composer: Composer) -> None:
        self.composer = composer
        self.sweep_settings = shared_settings(composer.master)
        self.sweep_overrides = as_written(composer.master.hydra.overrides.task)
        self.models: dict[tuple[str, ...], ComposedJob | None] = {}  # by shape; None: each job is left to `Composer`
        self._settings: dict[str, _Setting] = {}
        self._nodes: dict[tuple[Any, ...], tuple[Any, dict[str, Any]]] = {}

    def kind(self, overrides: Sequence[str]) -> tuple[str, ...]:
        """Overrides without free keys: jobs of the same kind can share an ensemble, and one is checked for all."""
        return tuple([text for text in overrides if not self._setting(text).free])

    def compose(self, overrides: Sequence[str]) -> ComposedJob:
        """Compose and check a job.

        Raises:
            ConfigError, HydraException, OmegaConfBaseException: errors of composing and checking.
        """
        settings = [self._setting(text) for text in overrides]
        shape = tuple([each.parsed.key_or_group if each.simple else str(each.parsed.input_line) for each in settings])
        model = self.models.get(shape)
        if model is not None:
            changed = self._changed(model, shape, overrides, settings)
            if changed is not None:
                return changed
        composed = self.composer.compose(overrides)
        self._refuse_settings_of_sweep(composed)
        job = composed.job()
        if shape not in self.models:
            interpolated = composed.asks_hydra or "${" in OmegaConf.to_yaml(composed.config)  # a value follows another
            self.models[shape] = None if interpolated else job
        return job

    def _refuse_settings_of_sweep(self, composed: ComposedConfig) -> None:
        of_config = {key: value for key, value in shared_settings(composed.config).items() if "." not in key}
        swept = [text for text in composed.overrides if text not in self.sweep_overrides]
        refuse_per_job_settings(self.sweep_settings, shared_settings(composed.full) | of_config, swept)

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
        self, model: ComposedJob, shape: tuple[str, ...], overrides: Sequence[str], settings: Sequence[_Setting]
    ) -> ComposedJob | None:
        """The model with other values; None if a value has another type, which OmegaConf must convert or refuse."""
        top: dict[str, Any] = {}
        leaves: dict[str, dict[str, Any]] = {}
        resolved = dict(model.resolved)
        for each in settings:
            if not each.simple:
                continue
            group, leaf, value = each.group, each.leaf, each.value
            old = resolved.get(group)
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
            else:
                top[group] = resolved[group] = value
        for group, values in leaves.items():
            top[group], resolved[group] = self._node(model, shape, group, values)
        return replace(
            model,
            run=replace(model.run, **top),
            overrides=list(overrides),
            recorded=resolved,
            resolved=resolved,
            parsed=[each.parsed for each in settings],
        )

    def _node(
        self, model: ComposedJob, shape: tuple[str, ...], group: str, values: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """A group of the model with other values, as a checked dataclass and as plain values; cached."""
        key = (shape, group, *values.values())
        if key not in self._nodes:
            if len(self._nodes) >= MAX_NODES:
                self._nodes.clear()
            plain = {**model.resolved[group], **values}
            plain = with_digests(plain) if group == "observations" else plain
            self._nodes[key] = replace(getattr(model.run, group), **values), plain
        return self._nodes[key]
