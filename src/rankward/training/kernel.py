"""The command `rankward kernel`: list the generated kernel of a run, without training it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rankward.config import CONFIG_FOLDER, ConfigError, run_config
from rankward.config.overrides import as_hydra_has_them


def kernel_listing(overrides: Sequence[str], config_dir: Path | None) -> list[str]:
    """Lines that describe the kernel of the run with these overrides.

    Args:
        overrides: as on the command line of a single run.
        config_dir: a folder of further config groups.

    Raises:
        ConfigError: a run that cannot start, or a factorization that cannot be compiled.
    """
    from hydra import compose, initialize_config_dir

    from rankward.dynamics.layouts import layout_of
    from rankward.dynamics.listing import indexed_listing, listing
    from rankward.dynamics.tracing import Untraceable
    from rankward.training.ensemble import Ensemble

    more = [] if config_dir is None else [f"hydra.searchpath=[file://{config_dir.absolute()}]"]
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG_FOLDER)):
        run = run_config(compose("config", overrides=[*as_hydra_has_them(overrides), *more]))
    ensemble = Ensemble.of([run])
    problem = ensemble.problem
    if problem.entries is not None:
        lines = indexed_listing(ensemble.factorization, problem.entries[0])
        return [f"factorization: {ensemble.factorization_name}", *lines]
    try:
        operator, values = problem.operator.shape[1:], problem.values.shape[1:]
        layout = layout_of(ensemble.factorization, operator, values, run.dtype, problem.rule, problem.loss)
    except Untraceable as error:
        group = error.subject.removeprefix("this ")
        name = getattr(run, group).name
        raise ConfigError(group, name, f"one that can be compiled: {error}") from error
    return [f"factorization: {ensemble.factorization_name}", *listing(layout, problem.dynamics)]
