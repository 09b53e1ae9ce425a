"""The jobs of a sweep: Hydra's grammar on the command line, and unions of grids with paired values in YAML.

    hydra:
      sweeper:
        grids:
          - depth: [2, 3]                                        # a grid: the product of its axes
            lr.eta, init.scale: [[6e-3, 1e-5], [3e-3, 1e-6]]     # one axis of paired values
          - depth: 4                                             # a second grid
            init: gaussian,balanced                              # Hydra's sweep grammar

A key of the command line replaces that key in the grids, and `select.KEY=VALUES` leaves the jobs with these values.
"""

from __future__ import annotations

import bisect
import copy
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString, RangeSweep
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from omegaconf import DictConfig, OmegaConf, read_write

from rankward.config import ConfigError
from rankward.config.checks import at_least, fits_memory
from rankward.config.overrides import as_value, quoted, spaced
from rankward.config.recording import OPEN, closed, open_choices, open_values
from rankward.config.registry import without_hydra
from rankward.sweeps.runner import SweepRunner
from rankward.sweeps.select import Selection
from rankward.sweeps.settings import hydra_resolver
from rankward.terminal import say

NUMBER = re.compile(r"\$\\?\{hydra\\?:job\.(num|id)\\?\}")  # with the escapes of Hydra's parser
JOB_BYTES = 1000  # memory of a job, at least
Axes = list[list[list[str]]]  # of a grid: the overrides of each choice of each axis
Axis = list[list[tuple[str, str]]]  # of a grid: choices, each of which sets one or several keys


class Jobs(Sequence[list[str]]):
    """Overrides of the jobs of a union of grids, computed on access.

    `${hydra:job.num}` is replaced by the job's number.

    Args:
        grids: overrides of each choice of each axis of each grid.

    Example:
        >>> jobs = Jobs([[[["seed=0"], ["seed=1"]], [["lr=flow", "depth='2'"]]]])
        >>> len(jobs), jobs[1], jobs[:1]
        (2, ['seed=1', 'lr=flow', "depth='2'"], [['seed=0', 'lr=flow', "depth='2'"]])
    """

    def __init__(self, grids: Sequence[Axes]) -> None:
        self.grids = grids
        self.ends = list(itertools.accumulate(math.prod(map(len, axes)) for axes in grids))

        parts = (text for axes in grids for axis in axes for choice in axis for text in choice)
        self.numbered = any("hydra" in text and NUMBER.search(text) for text in parts)

    def __len__(self) -> int:
        return self.ends[-1]

    def __iter__(self) -> Iterator[list[str]]:
        choices = (choice for axes in self.grids for choice in itertools.product(*axes))
        for number, choice in enumerate(choices):
            yield self._job(number, choice)

    def __getitem__(self, index: Any) -> Any:
        number = range(len(self))[index]
        if isinstance(number, range):
            return self if len(number) == len(self) and number.step == 1 else [self[each] for each in number]
        grid = bisect.bisect_right(self.ends, number)
        rest, parts = number - (self.ends[grid - 1] if grid else 0), []
        for axis in reversed(self.grids[grid]):
            rest, choice = divmod(rest, len(axis))
            parts.append(axis[choice])
        return self._job(number, reversed(parts))

    def _job(self, number: int, parts: Iterable[list[str]]) -> list[str]:
        """Overrides of a job, with its number instead of `${hydra:job.num}`."""
        job = [*itertools.chain.from_iterable(parts)]
        return [NUMBER.sub(str(number), text) for text in job] if self.numbered else job


class GridSearch:
    """Implementation of the plugin `hydra/sweeper=grid`.

    Args:
        params: axes crossed with every grid, as in Hydra's basic sweeper.
        grids: a union of grids; an empty list is one empty grid.
        max_batch_size: jobs in a launch; None for all jobs in one launch.
        zips: axes of paired values on the command line, as text.
        select: conditions on the jobs, as for `Selection`.
    """

    def __init__(
        self,
        params: Mapping[str, Any],
        grids: Sequence[Any],
        max_batch_size: int | None,
        zips: Sequence[str] = (),
        select: Sequence[str] = (),
    ) -> None:
        self.params = params
        self.grids = list(grids) or [{}]
        if max_batch_size is not None:
            at_least("hydra.sweeper.max_batch_size", max_batch_size, 1)
        self.max_batch_size = max_batch_size
        self.zips, self.select = list(zips), list(select)

    def setup(self, hydra_context: Any, task_function: Any, config: DictConfig, needs_folders: bool = False) -> None:
        """Receive Hydra's context, the function that runs a job, and the sweep's config.

        Args:
            hydra_context, task_function, config: from Hydra.
            needs_folders: as for `SweepRunner`.
        """
        self.parser = OverridesParser.create(config_loader=hydra_context.config_loader)
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self.runner = SweepRunner(hydra_context, launcher, config, task_function, needs_folders)

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Check every job, launch the jobs, and finish the sweep even if jobs have failed.

        Raises:
            SweepError: jobs cannot run, before anything is written; or jobs have failed, after all others have ended.
        """
        jobs = self.selected(arguments)
        self.runner.check(jobs)
        if self.runner.dry_run:
            say(*self.runner.plan(jobs).split("\n"))
            return []
        with self.runner.folder() as folder:
            size = self.max_batch_size or max(1, len(jobs))
            returns = [self.runner.launch(jobs[first : first + size]) for first in range(0, len(jobs), size)]
            self.runner.finish(folder)
        return returns

    def selected(self, arguments: Sequence[str]) -> Sequence[list[str]]:
        """Overrides of the jobs that meet the conditions of `select.KEY=VALUES`: those of `jobs`, in their order.

        Raises:
            ConfigError: conditions that no job meets.
        """
        jobs = self.jobs(self.closed(arguments))
        return Selection(self.select, self.parser).jobs(jobs, self.runner.quick_composer)

    def jobs(self, arguments: Sequence[str]) -> Jobs:
        """Overrides of every job in order: grid after grid, the last axis varying fastest."""
        given = self._axes(arguments)
        params = self._axes([f"{key}={_text(value)}" for key, value in self.params.items() if key not in given])
        paired = [self._paired("hydra.sweeper.zip", keys, yaml.safe_load(values)) for keys, values in self._zips()]
        taken = given.keys() | {key for axis in paired for key, _ in axis[0]}
        grids: list[Axes] = []
        for index, grid in enumerate(self.grids):
            axes = [_without(axis, taken) for axis in self._grid(index, grid)]
            grid_keys = {key for axis in axes for choice in axis for key, _ in choice}
            crossed = [axis for key, axis in (params | given).items() if key not in grid_keys]
            axes = [axis for axis in [*crossed, *paired, *axes] if axis]
            longest: Axis = max(axes, key=len, default=[[]])
            number = math.prod(map(len, axes))
            size = f"{len(longest):,} values in a grid of {number:,} jobs"
            fits_memory(", ".join(key for key, _ in longest[0]), size, JOB_BYTES * number)
            grids.append([[[quoted(f"{key}={value}") for key, value in choice] for choice in axis] for axis in axes])
        return Jobs(grids)

    def closed(self, arguments: Sequence[str]) -> Sequence[str]:
        """Replace values such as `${oc.env:X}` in the overrides of the command line by their present values.

        Every job has the same values, now and when the sweep is resumed.
        """
        if not self.runner.is_ours:
            return arguments
        composed = self.runner.config
        config = without_hydra(composed)
        parsed = self.parser.parse_overrides(list(arguments))
        swept = {each.get_key_element().lstrip("+~") for each in parsed if each.is_sweep_override()}
        axes = [*swept, *self.params, *(key for keys, _ in self._zips() for key in keys)]
        grids = [grid for grid in self.grids if isinstance(grid, Mapping)]
        axes += [key.strip() for grid in grids for keys in grid for key in str(keys).split(",")]
        chosen = {key.split(".")[0] for key in axes}  # groups in which jobs differ
        given = {each.get_key_element().lstrip("+~") for each in parsed}
        with hydra_resolver(composed):
            known = open_values(config)
            task = [_closed_axis(each, config) for each in parsed]
        values = {k: v for k, v in known.items() if k in given - swept or k.split(".")[0] not in chosen}
        choices = open_choices(
            [str(each.input_line) for each in parsed if not each.is_sweep_override()], composed.hydra.runtime.choices
        )
        overrides = closed(task, values | choices)
        with read_write(composed):
            composed.hydra.overrides.task = overrides  # for `resume`
        return overrides

    def _axes(self, overrides: Sequence[str]) -> dict[str, Axis]:
        axes: dict[str, Axis] = {}
        overrides = [spaced(override) for override in overrides]
        for override in self.parser.parse_overrides(list(overrides)):
            key = override.get_key_element()
            if override.is_sweep_override():
                if not override.is_discrete_sweep():
                    allowed = "a list, choice(...) or range(...): an interval has infinitely many values"
                    raise ConfigError(key, override.input_line, allowed)
                fits_memory(key, override.input_line, JOB_BYTES * _count(override))
                values = [str(value) for value in override.sweep_string_iterator()]
            else:
                values = [override.get_value_element_as_str()]
            axes[key] = [[(key, value)] for value in values]
        return axes

    def _grid(self, index: int, grid: Any) -> list[Axis]:
        name = f"hydra.sweeper.grids[{index}]"
        if OmegaConf.is_config(grid):
            grid = OmegaConf.to_container(grid, resolve=True)
        if not isinstance(grid, Mapping):
            raise ConfigError(name, grid, "a mapping from override keys to values")
        axes: list[Axis] = []
        for key, values in grid.items():
            keys = [part.strip() for part in str(key).split(",")]
            if len(keys) == 1:
                sweep = ",".join(map(_text, values)) if isinstance(values, list) else _text(values)
                axes += self._axes([f"{key}={sweep}"]).values()
                continue
            axes.append(self._paired(f"{name}.{key}", keys, values))
        return axes

    def _zips(self) -> list[tuple[list[str], str]]:
        """Keys and unparsed values of `key,key=[value,value],[value,value]` on the command line."""
        parts = [text.partition("=") for text in self.zips]
        return [([key.strip() for key in keys.split(",")], f"[{values}]") for keys, _, values in parts]

    def _paired(self, name: str, keys: Sequence[str], values: Any) -> Axis:
        if not isinstance(values, list) or any(not isinstance(v, list) or len(v) != len(keys) for v in values):
            raise ConfigError(f"{name}", values, f"a list of lists of {len(keys)} values, one for each key")
        return [list(zip(keys, map(_text, choice), strict=True)) for choice in values]


def _closed_axis(override: Override, config: DictConfig) -> str:
    """An override in which texts such as `${oc.env:X}` are replaced by their values."""
    text = str(override.input_line)
    if not (override.is_sweep_override() and override.is_discrete_sweep() and OPEN.search(text)):
        return text
    key = override.get_key_element()
    name, values = key.lstrip("+"), []
    for value, written in zip(override.sweep_iterator(), override.sweep_string_iterator(), strict=True):
        plain: Any = value.text if isinstance(value, QuotedString) else value
        changed = OmegaConf.create({name: plain})  # if the key is a group, the value is a choice
        if not OmegaConf.is_dict(OmegaConf.select(config, name)):
            changed = copy.deepcopy(config)
            OmegaConf.update(changed, name, plain, force_add=True)
        known = open_values(changed)
        values.append(as_value(known[name]) if name in known else written)
    return f"{key}={','.join(values)}"


def _count(override: Override) -> int:
    """Number of values of an axis, without making them."""
    value = override.value()
    if not isinstance(value, RangeSweep):
        return len(getattr(value, "list", ()))
    assert value.start is not None and value.stop is not None
    return max(0, math.ceil((value.stop - value.start) / value.step))


def _without(axis: Axis, keys: Iterable[str]) -> Axis:
    """An axis without some keys; choices that become equal are merged."""
    left = [[(key, value) for key, value in choice if key not in set(keys)] for choice in axis]
    return [choice for i, choice in enumerate(left) if choice and choice not in left[:i]]


def _text(value: Any) -> str:
    """A YAML value in the syntax of the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ",".join(map(_text, value)) + "]"
    return str(value)
