"""Many configs of one sweep, each what Hydra would compose, at a fraction of the cost.

Jobs of a sweep differ in a few values, seldom in the files that they are made of. So Hydra composes one config for each
set of group choices, and the jobs' other overrides are applied to copies of it, as Hydra itself applies them. The files
that Hydra leaves in a job's folder are spliced from sections that are written once: block YAML of a mapping is that of
its items, one after the other. What is out of the ordinary (`+key`, `~key`, `hydra.key`) is left to Hydra, job by job.
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
from rankward.config.recording import plain_values, recorded, resolved
from rankward.private_apis import apply_overrides, override_dirname, with_integer
from rankward.sweeps.settings import ASKS_HYDRA, answering, refuse_unknown

Section = tuple[str, ...]  # keys from the root
INTEGER = re.compile(r"-?(0|[1-9][0-9]*)", re.ASCII)  # as Hydra's grammar has them, without underscores
DIFFERENT = ("overrides", "job", "runtime")  # sections of Hydra's part of which jobs change some keys


@dataclass
class Template:
    """What the jobs with the same group choices share.

    Args:
        whole: as Hydra composed it, without the jobs' own overrides.
        own: the same without Hydra's part.
        plain: the same as plain values.
        texts: YAML of the sections of `own` by their key, and of Hydra's part by two keys, or three where jobs differ.
    """

    whole: DictConfig
    own: DictConfig
    plain: dict[str, Any]
    texts: dict[Section, str]

    def asks_hydra(self) -> bool:
        """Whether a value is one of Hydra's own part, which may be another one for each job."""
        return any(ASKS_HYDRA in text for keys, text in self.texts.items() if keys[0] != "hydra")


@dataclass
class Composed:
    """A job's config: `own` is what its program gets, `overrides` made it; no template where Hydra composed it.

    `whole` has Hydra's part; of a template it is without the job's own values. Where a value of `own` asks for that
    part (`asks_hydra`), all are resolved.
    """

    own: DictConfig
    overrides: list[str]
    whole: DictConfig
    asks_hydra: bool = False
    template: Template | None = None
    parsed: Sequence[Override] = ()

    def slim(self) -> Slim:
        """What is left to keep of a checked job of many: plain values, a tenth of a config's size."""
        values = resolved(self.own)
        return Slim(self.overrides, recorded(self.own, values), values, self.template, self.parsed)


@dataclass(slots=True)
class Slim:
    """A composed job as plain values: as its folder keeps them, and resolved."""

    overrides: list[str]
    recorded: dict[str, Any]
    resolved: dict[str, Any]
    template: Template | None
    parsed: Sequence[Override]

    def files(self, number: int, folder: Path) -> dict[str, str]:
        """Texts of `config.yaml`, `hydra.yaml` and `overrides.yaml` for a job of that number in that folder."""
        assert self.template is not None
        written = self.template.plain
        touched = {parsed.key_or_group.split(".")[0] for parsed in self.parsed}
        as_there = {key for key, value in self.recorded.items() if key not in touched and written.get(key) == value}
        config = "".join(
            self.template.texts[(key,)] if key in as_there else _text((key,), value)
            for key, value in self.recorded.items()
        )
        dirname = override_dirname(self.parsed, self.template.whole.hydra.job.config.override_dirname)
        changed: dict[Section, Any] = {
            ("hydra", "overrides", "task"): self.overrides,
            ("hydra", "job", "override_dirname"): dirname,
            ("hydra", "job", "id"): str(number),
            ("hydra", "job", "num"): number,
            ("hydra", "runtime", "output_dir"): str(folder.absolute()),
        }
        lines = [
            _text(keys, changed[keys]) if keys in changed else text
            for keys, text in self.template.texts.items()
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
        self.integers: dict[str, Override] = {}  # one with an integer, by the text before =
        self.plain: dict[str, bool] = {}
        self.templates: dict[tuple[str, ...], Template] = {}

    def compose(self, overrides: Sequence[str]) -> Composed:
        """The config that Hydra's `load_sweep_config` gives for these overrides.

        Raises:
            HydraException, OmegaConfBaseException: as Hydra does.
        """
        overrides = list(overrides)
        parsed = [self.parse(override) for override in overrides]
        choices = [p for p in parsed if not self.is_value(p)]
        if any(p.is_hydra_override() or p.is_add() or p.is_delete() or p.is_force_add() for p in parsed):
            return self._by_hydra(overrides)
        template = self._template([str(choice.input_line) for choice in choices])
        if template.asks_hydra() or any(ASKS_HYDRA in override.replace("\\", "") for override in overrides):
            return self._by_hydra(overrides)
        own = copy.deepcopy(template.own)
        apply_overrides([p for p in parsed if self.is_value(p)], own)
        return Composed(own, overrides, template.whole, template=template, parsed=parsed)

    def _by_hydra(self, overrides: list[str]) -> Composed:
        whole = self.loader.load_sweep_config(self.master, overrides)
        own = _without_hydra(whole)
        asks_hydra = ASKS_HYDRA in OmegaConf.to_yaml(own)
        if asks_hydra:
            refuse_unknown(own)
            with answering(whole):
                OmegaConf.resolve(own)
        return Composed(own, overrides, whole, asks_hydra)

    def parse(self, override: str) -> Override:
        """An override, parsed once; of a key's integers, as seeds are, the first alone."""
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
        """Whether an override sets a value, and does not choose a group's file."""
        key = override.key_or_group
        if key not in self.plain:
            self.plain[key] = not self.loader.repository.group_exists(key)
        return self.plain[key] and override.package is None

    def _template(self, choices: list[str]) -> Template:
        if tuple(choices) not in self.templates:
            whole = self.loader.load_sweep_config(self.master, choices)
            own = _without_hydra(whole)
            plain = plain_values(own)
            texts: dict[Section, str] = {(key,): _text((key,), value) for key, value in plain.items()}
            texts[("hydra",)] = "hydra:\n"
            for key, value in plain_values(whole.hydra).items():
                if key not in DIFFERENT:
                    texts["hydra", key] = _text(("hydra", key), value)
                    continue
                texts["hydra", key] = f"  {key}:\n"
                texts |= {("hydra", key, leaf): _text(("hydra", key, leaf), each) for leaf, each in value.items()}
            self.templates[tuple(choices)] = Template(whole, own, plain, texts)
        return self.templates[tuple(choices)]


def _without_hydra(whole: DictConfig) -> DictConfig:
    own = copy.deepcopy(whole)
    OmegaConf.set_readonly(own, False)
    OmegaConf.set_struct(own, False)
    del own["hydra"]
    OmegaConf.set_struct(own, True)
    return own


def _text(keys: Section, value: Any) -> str:
    """The lines that a nested value adds to its mapping's YAML."""
    nested = value
    for key in reversed(keys):
        nested = {key: nested}
    return results.to_yaml(nested).split("\n", len(keys) - 1)[-1]
