"""Compose the configs of a sweep's jobs: the same configs as Hydra's, at a fraction of the cost.

Jobs of a sweep differ in a few values, seldom in the files of which they are composed. So Hydra composes one base
config for each set of group choices, and the other overrides of a job are applied to a copy of it, with Hydra's
function. The files that Hydra writes into a job's folder are spliced from sections that are dumped once: the block YAML
of a mapping is the concatenation of its items. Unusual overrides (`+key`, `~key`, `hydra.key`) are left to Hydra.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from rankward import results
from rankward.config import RunConfig, run_config
from rankward.config.recording import plain_values, recorded, resolved, without_unset
from rankward.config.registry import config_hash, without_hydra
from rankward.private_apis import apply_overrides, override_dirname, with_integer
from rankward.sweeps.settings import ASKS_HYDRA, hydra_resolver, refuse_unknown

Section = tuple[str, ...]  # keys from the root
INTEGER = re.compile(r"-?(0|[1-9][0-9]*)", re.ASCII)  # of Hydra's grammar, without underscores
PER_JOB = ("overrides", "job", "runtime")  # sections of Hydra's part in which jobs change some keys


@dataclass
class BaseConfig:
    """Config shared by the jobs with the same group choices.

    Args:
        full: as Hydra composes it, without the jobs' other overrides.
        config: `full` without Hydra's part.
        plain: `config` as plain values.
        texts: YAML of the sections of `config` by their key, and of Hydra's part by two keys, or by three where jobs
            differ.
    """

    full: DictConfig
    config: DictConfig
    plain: dict[str, Any]
    texts: dict[Section, str]

    def asks_hydra(self) -> bool:
        """Whether a value refers to Hydra's part, which may be different for each job."""
        return any(ASKS_HYDRA in text for keys, text in self.texts.items() if keys[0] != "hydra")


@dataclass
class ComposedConfig:
    """A job's composed config.

    Args:
        config: without Hydra's part.
        overrides: of the job.
        full: with Hydra's part; if there is a base, without the job's values.
        asks_hydra: whether a value of `config` refers to Hydra's part; all values are then resolved.
        base: None if Hydra composed the config.
        parsed: overrides, if there is a base.
    """

    config: DictConfig
    overrides: list[str]
    full: DictConfig
    asks_hydra: bool = False
    base: BaseConfig | None = None
    parsed: Sequence[Override] = ()

    def job(self) -> ComposedJob:
        """The checked job with plain values, which take a tenth of the memory of a config.

        Raises:
            ConfigError: a value is not allowed.
        """
        run = run_config(self.config)
        resolved_values = resolved(self.config)
        recorded_values = recorded(self.config, resolved_values)
        return ComposedJob(run, self.overrides, recorded_values, resolved_values, self.base, self.parsed)


@dataclass(slots=True)
class ComposedJob:
    """A checked job.

    Args:
        run: its config.
        overrides: of the job.
        recorded: plain values as its folder records them.
        resolved: plain values, resolved.
        base: None if Hydra composed the config.
        parsed: overrides, if there is a base.
    """

    run: RunConfig
    overrides: list[str]
    recorded: dict[str, Any]
    resolved: dict[str, Any]
    base: BaseConfig | None
    parsed: Sequence[Override]

    @property
    def digest(self) -> str:
        """The config's hash."""
        return config_hash(self.resolved)

    def hydra_files(self, number: int, folder: Path) -> dict[str, str]:
        """Texts of `config.yaml`, `hydra.yaml` and `overrides.yaml` for this job's number and folder."""
        assert self.base is not None
        plain = self.base.plain
        overridden = {parsed.key_or_group.split(".")[0] for parsed in self.parsed}
        unchanged = {key for key, value in self.recorded.items() if key not in overridden and plain.get(key) == value}
        config = "".join(
            self.base.texts[(key,)] if key in unchanged else _text((key,), value)
            for key, value in self.recorded.items()
        )
        dirname = override_dirname(self.parsed, self.base.full.hydra.job.config.override_dirname)
        changed: dict[Section, Any] = {
            ("hydra", "overrides", "task"): self.overrides,
            ("hydra", "job", "override_dirname"): dirname,
            ("hydra", "job", "id"): str(number),
            ("hydra", "job", "num"): number,
            ("hydra", "runtime", "output_dir"): str(folder.absolute()),
        }
        lines = [
            _text(keys, changed[keys]) if keys in changed else text
            for keys, text in self.base.texts.items()
            if keys[0] == "hydra"
        ]
        return {"config.yaml": config, "hydra.yaml": "".join(lines), "overrides.yaml": results.to_yaml(self.overrides)}


class Composer:
    """Composes the jobs of a sweep.

    Args:
        loader: Hydra's config loader.
        master: the sweep's config.
    """

    def __init__(self, loader: Any, master: DictConfig) -> None:
        self.loader, self.master = loader, master
        self.parser = OverridesParser.create(config_loader=loader)
        self.parsed: dict[str, Override] = {}
        self.integers: dict[str, Override] = {}  # an override with an integer, by its key
        self.value_keys: dict[str, bool] = {}  # whether a key is that of a value
        self.bases: dict[tuple[str, ...], BaseConfig] = {}

    def compose(self, overrides: Sequence[str]) -> ComposedConfig:
        """Compose the config of `load_sweep_config`, Hydra's function, for these overrides.

        Raises:
            HydraException, OmegaConfBaseException: Hydra's errors.
        """
        overrides = list(overrides)
        parsed = [self.parse(override) for override in overrides]
        choices = [p for p in parsed if not self.is_value(p)]
        if any(p.is_hydra_override() or p.is_add() or p.is_delete() or p.is_force_add() for p in parsed):
            return self._by_hydra(overrides)
        base = self._base([str(choice.input_line) for choice in choices])
        if base.asks_hydra() or any(ASKS_HYDRA in override.replace("\\", "") for override in overrides):
            return self._by_hydra(overrides)
        config = copy.deepcopy(base.config)
        apply_overrides([p for p in parsed if self.is_value(p)], config)
        return ComposedConfig(config, overrides, base.full, base=base, parsed=parsed)

    def _by_hydra(self, overrides: list[str]) -> ComposedConfig:
        full = self.loader.load_sweep_config(self.master, overrides)
        config = without_hydra(full)
        asks_hydra = ASKS_HYDRA in OmegaConf.to_yaml(config)
        if asks_hydra:
            refuse_unknown(config)
            with hydra_resolver(full):
                OmegaConf.resolve(config)
        return ComposedConfig(config, overrides, full, asks_hydra)

    def parse(self, override: str) -> Override:
        """Parse an override once; of a key's integers (seeds), Hydra parses only the first."""
        if override not in self.parsed:
            key, _, number = override.partition("=")
            model = self.integers.get(key) if INTEGER.fullmatch(number) else None
            if model is not None:
                self.parsed[override] = with_integer(model, int(number), override)
            else:
                (self.parsed[override],) = self.parser.parse_overrides([override])
                if type(self.parsed[override].value()) is int:
                    self.integers[key] = self.parsed[override]
        return self.parsed[override]

    def is_value(self, override: Override) -> bool:
        """Whether an override sets a value; if not, it chooses the file of a group."""
        key = override.key_or_group
        if key not in self.value_keys:
            self.value_keys[key] = not self.loader.repository.group_exists(key)
        return self.value_keys[key] and override.package is None

    def _base(self, choices: list[str]) -> BaseConfig:
        if tuple(choices) not in self.bases:
            full = self.loader.load_sweep_config(self.master, choices)
            config = without_hydra(full)
            plain = without_unset(plain_values(config))
            texts: dict[Section, str] = {(key,): _text((key,), value) for key, value in plain.items()}
            texts[("hydra",)] = "hydra:\n"
            for key, value in plain_values(full.hydra).items():
                if key not in PER_JOB:
                    texts["hydra", key] = _text(("hydra", key), value)
                    continue
                texts["hydra", key] = f"  {key}:\n"
                texts |= {("hydra", key, leaf): _text(("hydra", key, leaf), each) for leaf, each in value.items()}
            self.bases[tuple(choices)] = BaseConfig(full, config, plain, texts)
        return self.bases[tuple(choices)]


def _text(keys: Section, value: Any) -> str:
    """Lines of a nested value in the YAML of its mapping."""
    nested = value
    for key in reversed(keys):
        nested = {key: nested}
    return results.to_yaml(nested).split("\n", len(keys) - 1)[-1]
