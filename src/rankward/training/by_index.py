"""Runs whose observations are listed by index: which they are, and metrics of factors without their product."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from rankward.config import ConfigError, RunConfig
from rankward.config.checks import ENTRY_BYTES, machine_memory
from rankward.config.groups import FlowRate
from rankward.dynamics import Entries, entries_at
from rankward.dynamics.indexed import halves
from rankward.factorizations import Factorization
from rankward.factorizations.base import Chain, Components
from rankward.linalg import one_thread
from rankward.metrics import HeldOutErrors, TraceMetric, measure
from rankward.metrics.functional.singular_values import thin_singular_values
from rankward.observations import EntryMask, IndexedEntries, Measurement
from rankward.observations.indexed import AXES, SMALL, amount

DENSE = 4  # a mask is used where one entry in so many, or more, is observed
NAME, PRODUCT = "indexed", "product"  # of the engine; what metrics that are left out need


def listed_or_masked(
    run: RunConfig, made: Measurement, factorization: Callable[[Measurement], Factorization]
) -> Measurement:
    """A run's observations with a mask, or by index where they train with less work so.

    Entries that were read by index get a mask where the array has at most `SMALL` entries, where a quarter of them or
    more is observed, and where the engine for indexed entries cannot train the run: so a small problem has the same
    bits, however its entries were given. `engine=indexed` uses it for any entries; another engine by name never.

    Args:
        run: its config.
        made: its observations as they were read.
        factorization: a function for that of the run.

    Raises:
        ConfigError: entries that are too many for a mask and cannot train by index, or `engine=indexed` where it cannot
            train the run.
    """
    asked = run.engine == NAME
    if isinstance(made, EntryMask) and asked:
        if made.first is not None:
            raise ConfigError("engine", NAME, "another one: the observed values change")
        made = IndexedEntries.of_mask(made)
    if not isinstance(made, IndexedEntries):
        if asked:
            raise ConfigError("engine", NAME, "another one: it trains observed entries, not measurements <A_i, W>")
        return made
    needed, why = ENTRY_BYTES * made.size, ""
    possible = len(made.dims) <= AXES and needed <= machine_memory() and not made.repeated
    small = possible and (made.size <= SMALL or DENSE * made.count >= made.size)
    if run.engine not in ("auto", NAME) or (small and not asked):
        why = f"engine={run.engine}"
    else:
        why = _why_not(run, made, factorization)
    if not why:
        return made
    if asked:
        raise ConfigError("engine", NAME, f"auto: that engine does not train {why}")
    if not possible:
        size = f"{len(made.dims)} axes" if len(made.dims) > AXES else f"{amount(made.size)} entries"
        reason = "a mask has each entry once" if made.repeated else f"{size} are too many for a mask"
        raise ConfigError("observations", run.observations.name, f"fewer: {reason}, and {why} needs one")
    return made.masked()


def _why_not(run: RunConfig, made: IndexedEntries, factorization: Callable[[Measurement], Factorization]) -> str:
    """The setting for which there is no training by index; empty if there is none."""
    if isinstance(run.lr, FlowRate):
        return "lr=flow"
    if run.trainer.accelerator == "gpu":
        return "trainer=gpu"
    if run.factorization.name == "matrix" and run.depth.layers < 2:
        return "depth=1"
    form = factorization(made).form
    chain = isinstance(form, Chain) and len(form.sizes) > 2
    return "" if chain or isinstance(form, Components) else f"factorization={run.factorization.name}"


def entries_of(measurement: IndexedEntries) -> Entries:
    """The observed entries of a run, for an engine."""
    return Entries(measurement.dims, measurement.index, measurement.values)


def with_heldout(measurement: IndexedEntries) -> tuple[Entries, Tensor]:
    """Observed entries, then the held-out ones; and which are held out, [n]."""
    heldout = measurement.heldout
    if heldout is None:
        return entries_of(measurement), torch.zeros(measurement.count, dtype=torch.bool)
    index = np.concatenate([measurement.index, heldout.index])
    both = Entries(measurement.dims, index, np.concatenate([measurement.values, heldout.values]))
    return both, torch.arange(len(index)) >= measurement.count


def measure_rows(
    metrics: Mapping[str, TraceMetric],
    factors: Sequence[Tensor],
    run: Tensor,
    factorization: Factorization,
    measurements: Sequence[IndexedEntries],
    context: Mapping[str, object],
) -> dict[str, Tensor]:
    """Columns of metrics that need no product, [rows] float64 each, as `measure` makes them.

    Singular values of a chain are those of its thin halves, and errors are those of the listed entries.

    Args:
        metrics: those that `measurable_without_product`, and `HeldOutErrors`.
        factors: [rows, *shape] each.
        run: of each row.
        factorization: of the runs.
        measurements: of each run.
        context: as for `measure`.
    """
    of_entries = {name: metric for name, metric in metrics.items() if isinstance(metric, HeldOutErrors)}
    others = {name: metric for name, metric in metrics.items() if name not in of_entries}
    form, rows = factorization.form, len(factors[0])

    def singular_values(chosen: slice) -> Tensor:
        assert isinstance(form, Chain)
        each = [[factor[row].double() for factor in factors] for row in range(rows)[chosen]]
        with one_thread():
            found = [thin_singular_values(*halves(form, row)) for row in each]
        return torch.stack(found) if found else torch.zeros(0, min(form.sizes[0], form.sizes[-1]), dtype=torch.float64)

    is_chain = isinstance(form, Chain)
    known = {"singular_values": singular_values} if is_chain else {}
    columns = measure(others, factors, None, is_chain, **known, **context)  # type: ignore[arg-type]
    unit = context.get("unit")
    parts: list[dict[str, Tensor]] = []
    places = [torch.nonzero(run == each).flatten() for each in run.unique()] if of_entries else []
    for at in places:
        entries, heldout = with_heldout(measurements[int(run[at[0]])])
        predicted = entries_at(form, entries)
        values = torch.from_numpy(entries.values)

        def repeated(array: Tensor, count: int = len(at)) -> Tensor:
            return array.expand(count, len(array))

        parts.append(
            measure(
                of_entries,
                [factor[at] for factor in factors],
                predicted,
                is_chain=False,
                values=repeated(values),
                observed=repeated(~heldout),
                heldout=repeated(heldout),
                unit=unit[at] if isinstance(unit, Tensor) else None,
            )
        )
    for name in parts[0] if parts else ():
        columns[name] = torch.full((rows,), torch.nan, dtype=torch.float64)
        for at, part in zip(places, parts, strict=True):
            columns[name][at] = part[name]
    return columns


def note(left_out: Sequence[str], certificates: Sequence[str]) -> str:
    """A note on metrics and certificates, by name, that need the whole product; empty if there are none."""
    parts = [f"metrics.columns: {', '.join(left_out)}"] if left_out else []
    parts += [f"metrics.certificates: {', '.join(certificates)}"] if certificates else []
    why = "left out, since they need the whole product, which is not written down (engine=indexed)"
    return f"{why}: {'; '.join(parts)}" if parts else ""
