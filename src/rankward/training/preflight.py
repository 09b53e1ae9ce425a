"""Checks before training: a run that cannot start is refused before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rankward.config import ConfigError, DataError, InputError, RunConfig
from rankward.config.recording import changed_file
from rankward.loggers.run import check_loggers
from rankward.loggers.target import LoggerError
from rankward.terminal import say
from rankward.training.devices import check_devices
from rankward.training.ensemble import Ensemble, measurement_of, traits
from rankward.training.module import EnsembleModule


def prepare(runs: Sequence[RunConfig]) -> EnsembleModule:
    """Build the ensemble of these runs, ready to train.

    An ensemble that `keep_for_training` holds for equal configs is returned instead of a second one, so that the
    ensemble that was checked is the one that trains.

    Raises:
        ConfigError: runs that cannot share an ensemble, or cannot start.
        DataError: observations that cannot be used.
    """
    check_devices(runs[0])
    global _checked
    module, _checked = _checked, None
    # A data file may have changed since the check: then its observations are read again, into another object.
    if module is not None and list(module.ensemble.runs) == list(runs):
        pairs = zip(runs, module.ensemble.measurements, strict=True)
        if all(measurement_of(run) is measurement for run, measurement in pairs):
            return module
    return EnsembleModule(Ensemble.of(runs))


def keep_for_training(module: EnsembleModule) -> None:
    """Hold a checked ensemble until the next call of `prepare`; only one is held at a time."""
    global _checked
    _checked = module


_checked: EnsembleModule | None = None  # Hydra stands between the check of a single run and its training


def check(run: RunConfig, elsewhere: bool = False) -> EnsembleModule:
    """Do everything that a run does before its first step, without writing anything; return its ensemble.

    Args:
        run: its config.
        elsewhere: whether another machine will train it, so that the devices of this one do not matter.

    Raises:
        ConfigError: a run that cannot start.
        DataError: observations that cannot be used.
        LoggerError: a logger that cannot start.
    """
    module = EnsembleModule(Ensemble.of([run])) if elsewhere else prepare([run])
    check_loggers(run)
    _print_data_note(run)
    if run.ckpt_path is not None and not Path(run.ckpt_path).is_file():
        raise ConfigError("ckpt_path", run.ckpt_path, "a checkpoint of Rankward's: there is no such file")
    return module


def check_all(runs: Sequence[RunConfig], elsewhere: bool = False) -> dict[int, Exception]:
    """Check many runs; return the error of each one that cannot start, by index.

    The observations of every run are made. Initial factors, metrics and engines are checked once for all runs that
    differ only in seeds and numbers.
    """
    errors: dict[int, Exception] = {}
    checked_kinds: set[object] = set()
    for index, run in enumerate(runs):
        try:
            kind = (traits(run), _kind_of_init(run), str(run.factorization), run.ckpt_path, str(run.logger))
            if kind not in checked_kinds:
                check(run, elsewhere)
                checked_kinds.add(kind)
            _print_data_note(run)
        except (InputError, LoggerError) as error:
            errors[index] = error
    return errors


def refuse_changed(config: Mapping[str, Any]) -> None:
    """Refuse to train if a data file has changed since the config was made.

    Raises:
        DataError: the key and the file.
    """
    observations = config.get("observations", {})
    if key := changed_file(observations):
        raise DataError(f"observations.{key}: {observations[key]!r} has changed or gone since the run was checked")


def _print_data_note(run: RunConfig) -> None:
    """Print how the run's data file was read, once per file, to standard error."""
    note, path = measurement_of(run).note, run.observations.file
    if note and path not in _printed:
        _printed.add(path)
        say(f"rankward: {note}", error=True)


_printed: set[str | None] = set()


def _kind_of_init(run: RunConfig) -> tuple[object, ...]:
    return run.init.name, run.init._target_, run.init.determinant
