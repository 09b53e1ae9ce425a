"""Training from Python: `rankward.run` and `rankward.sweep`, with the overrides, files and bits of the command line."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankward.config import ConfigError, InputError, RankwardError, nearest
from rankward.config.overrides import as_value
from rankward.results.load import Run, Sweep
from rankward.terminal import inside_program

if TYPE_CHECKING:
    from omegaconf import DictConfig

LOGGERS = ("", "pytorch_lightning", "lightning.pytorch", "pytorch_lightning.utilities.rank_zero")
FLAGS = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp")  # those that choose configs
# Hydra's own logging would close the log files of the program.
SILENT = ("hydra/job_logging=none", "hydra/hydra_logging=none")
_one_at_a_time = threading.RLock()  # Hydra has one state a process


def run(*overrides: str, quiet: bool = False, **values: Any) -> Run:
    """Train one run, as `rankward OVERRIDES` does, and return its results.

    The files are those of the command line, to the same bytes, in `outputs/<date>/<time>` below the working directory
    or in `hydra.run.dir`. A complete run in that folder is not trained again, an interrupted one continues. Ctrl-C
    saves a checkpoint and raises KeyboardInterrupt. A run that diverges is a result: `run.summary["status"]` says so.

    Args:
        overrides: of the command line, `"depth=3"`, without a shell's quotes; also `"--config-dir=FOLDER"`, for your
            own config groups.
        quiet: print nothing but warnings, and show no progress.
        values: further overrides, as Python values: `seed=1`, `init="balanced"`, `**{"lr.eta": 1e-3}`.

    Raises:
        ConfigError: a setting that is not allowed; nothing was written.
        RankwardError: any other failure that its line explains.

    Example:
        >>> import tempfile
        >>> settings = {"hydra.run.dir": tempfile.mkdtemp(), "logger": "none", "engine": "reference"}
        >>> made = run("depth=2", "init.scale=1e-2", "record.product=true", seed=1, max_iterations=100, quiet=True,
        ...            **settings)
        >>> made.summary["status"], made.trace["iteration"].to_list(), made.products.shape
        ('max_iterations', [0, 50, 100], (3, 2, 2))
        >>> run("lr.eta=-1")
        Traceback (most recent call last):
        rankward.config.errors.ConfigError: lr.eta: -1.0 is not allowed; expected a positive finite number
    """
    return Run(_train(_arguments(overrides, values, several=False), quiet))


def sweep(*overrides: str, quiet: bool = False, **values: Any) -> Sweep:
    """Train many runs, as `rankward -m OVERRIDES` does, and return their results.

    The files are those of the command line, to the same bytes, in `multirun_outputs/<time>` below the working directory
    or in `hydra.sweep.dir`; runs that are complete there are not trained again.

    Args:
        overrides: of the command line, `"depth=2,3"`, `"seed=range(0,5)"`, `"experiment=figure1"`.
        quiet: print nothing but warnings, and show no progress.
        values: further overrides, as Python values. A tuple, a range or a one-dimensional array is several values,
            `seed=range(5)`, `depth=(2, 3)`; a list is one value, as brackets are on the command line.

    Raises:
        SweepError: jobs that cannot run, a line each, and nothing was written; or jobs that have failed, and all others
            are in the folder that the error's note names.
        RankwardError: any other failure that its line explains.
    """
    try:
        return Sweep(_train(["-m", *_arguments(overrides, values, several=True)], quiet))
    except RankwardError as error:
        if lists := [key for key, value in values.items() if isinstance(value, list)]:
            error.add_note(
                f"{', '.join(lists)}: a list is one value; several values are a tuple or a range: depth=(2, 3)"
            )
        raise


def _arguments(overrides: Sequence[str], values: Mapping[str, Any], several: bool) -> list[str]:
    """Arguments of the command line.

    Example:
        >>> _arguments(["depth=2"], {"seed": range(3), "init": "balanced", "observations.dims": [4, 4]}, several=True)
        ['depth=2', 'seed=0,1,2', 'init=balanced', 'observations.dims=[4,4]']
    """
    is_value = False  # of the flag before it
    for text in overrides:
        if not isinstance(text, str):
            raise ConfigError("override", text, "a text, 'key=value', or a keyword argument, key=value")
        if text.startswith("-"):
            flag, equals, _ = text.partition("=")
            if flag not in FLAGS:
                allowed = "key=value, or --config-dir=FOLDER; rankward.run trains one run, rankward.sweep many"
                raise ConfigError("override", text, allowed, nearest(flag, FLAGS))
            is_value = not equals
        elif "=" not in text and text[:1] not in "+~" and not is_value:
            raise ConfigError("override", text, "key=value")
        else:
            is_value = False
    return [*overrides, *(f"{key}={_as_override(key, value, several)}" for key, value in values.items())]


def _as_override(key: str, value: Any, several: bool) -> str:
    """A Python value in Hydra's grammar."""
    if isinstance(value, tuple | range) or getattr(value, "ndim", 0) == 1:
        if not several:
            raise ConfigError(key, value, "one value; a list is one, and rankward.sweep takes several")
        if not len(value):
            raise ConfigError(key, value, "at least one value")
        return ",".join(_text(_plain(key, each)) for each in value)
    return _text(_plain(key, value))


def _text(value: Any) -> str:
    """A plain value in Hydra's grammar; a word has no quotes, as on the command line.

    Example:
        >>> _text("balanced"), _text("null"), _text("1e-3"), _text(None)
        ('balanced', "'null'", "'1e-3'", 'null')
    """
    is_word = isinstance(value, str) and re.fullmatch(r"[A-Za-z]\w*", value)
    return value if is_word and value.lower() not in ("null", "true", "false", "nan", "inf") else as_value(value)


def _plain(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(f"{key}.{name}", each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(key, each) for each in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    value = value.item() if getattr(value, "ndim", None) == 0 else value  # a number of NumPy or torch
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(key, value, "a number, a text, a path, None, or a list or mapping of these")


def _train(arguments: list[str], quiet: bool) -> Path:
    """Train through Hydra; the folder."""
    with _one_at_a_time, inside_program(quiet), _own_hydra():
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        from rankward.cli import train
        from rankward.config import register
        from rankward.config.explain import explain
        from rankward.sweeps.callback import started, unlock

        register()
        environment = dict(os.environ)
        named = {text.partition("=")[0] for text in arguments}
        failure: Exception | None = None
        try:
            train([*arguments, *(text for text in SILENT if text.partition("=")[0] not in named)])
        except SystemExit as end:
            failure = getattr(end, "error", None) or InputError(f"{' '.join(arguments)}: Hydra cannot read this")
        except (RankwardError, HydraException, OmegaConfBaseException) as error:
            failure = error
        finally:
            unlock()
            config = started()
            _restore([] if config is None else map(str, config.hydra.job.env_set), environment)
        if failure is None:
            assert config is not None
            return _folder(config)
        if not isinstance(failure, RankwardError):
            line, code = explain(failure)
            failure = InputError(line) if code == 2 else RankwardError(line)
        if config is not None and not isinstance(failure, InputError) and (folder := _folder(config)).is_dir():
            failure.add_note(f"rankward.load({str(folder)!r}) reads the runs that have ended")
        raise failure from None


def _folder(config: DictConfig) -> Path:
    """The absolute folder of a run or sweep that has started with this config."""
    from hydra.types import RunMode

    from rankward.sweeps.settings import hydra_resolver

    hydra = config.hydra
    with hydra_resolver(config):
        return Path(hydra.runtime.cwd) / (hydra.sweep.dir if hydra.mode == RunMode.MULTIRUN else hydra.run.dir)


def _restore(names: Iterable[str], environment: Mapping[str, str]) -> None:
    """Give variables of the environment their earlier values."""
    for name in names:
        os.environ.pop(name, None)
        os.environ |= {name: environment[name]} if name in environment else {}


@contextlib.contextmanager
def _own_hydra() -> Iterator[None]:
    """Hydra as if it had not started yet; what another program has started comes back afterwards."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.version import VersionBase, setbase

    state, config, version = GlobalHydra.instance(), HydraConfig.instance(), VersionBase.instance()
    before = state.hydra, config.cfg, version.version_base, sys.argv
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    state.clear()
    setbase("1.3")
    sys.argv = ["rankward"]
    environment = dict(os.environ)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra ends the process
    try:
        yield
    finally:
        state.hydra, config.cfg, version.version_base, sys.argv = before
        _restore(["HYDRA_FULL_ERROR"], environment)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
