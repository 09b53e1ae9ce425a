"""The rule for stops and rows, for engines in torch: the text that is compiled in kernels, bound to tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rankward.dynamics.kernels.texts import check_text


@dataclass(frozen=True)
class StopAndRecord:
    """The functions `check` and `after` of `kernels/_check_source.py`."""

    check: Callable[..., Any]
    after: Callable[..., Any]


def _bound(**names: Callable[..., Any]) -> StopAndRecord:
    """The functions of the text, with other functions for some of those that they call."""
    space: dict[str, Any] = {"math": math}
    exec(check_text().replace("@numba.njit(cache=True, nogil=True)\n", ""), space)
    space.update(names)
    return StopAndRecord(space["check"], space["after"])


def _where(condition: Any, value: Any, otherwise: Any) -> Any:
    """`torch.where`, also with Python's integers: these are filled in on the device, which a CUDA graph can capture."""
    if isinstance(condition, bool):
        return value if condition else otherwise
    value, otherwise = (
        each if isinstance(each, Tensor) else torch.full_like(condition, each, dtype=torch.int64)
        for each in (value, otherwise)
    )
    return torch.where(condition, value, otherwise)


OF_A_RUN = _bound()  # on Python's numbers
OF_RUNS = _bound(  # on tensors [runs]
    where=_where, real=Tensor.double, ceiling=lambda number: number.ceil().long()
)
