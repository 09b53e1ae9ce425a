"""Train an ensemble on several devices: each advances its share of the runs, all at once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from rankward.dynamics.state import Adaptive, Flow, Noise, Plateau, Problem, Progress, Rows, Rule


@runtime_checkable
class Advances(Protocol):
    """The interface of an engine."""

    name: str
    note: str

    def advance(self, factors: list[Tensor], problem: Problem, progress: Progress, length: int) -> Rows:
        """Advance every running run by a chunk."""


class SplitEngine:
    """Split the running runs evenly over devices; the results do not depend on the split.

    Args:
        engines: one for each device.
        devices: such as `cuda:0`; factors and progress stay on the devices they come from.
    """

    def __init__(self, engines: Sequence[Advances], devices: Sequence[torch.device]) -> None:
        self.engines, self.devices = list(engines), list(devices)
        self.name, self.note = engines[0].name, engines[0].note

    def advance(self, factors: list[Tensor], problem: Problem, progress: Progress, length: int) -> Rows:
        """Advance every running run by `length` iterations, or to its stop; factors and progress change in place."""
        running = progress.running
        shares = [share for share in running.cpu().tensor_split(len(self.devices)) if len(share)]

        def work(share: Tensor, engine: Advances, device: torch.device) -> tuple[list[Tensor], Progress, Rows]:
            part_factors = [factor.detach()[share.to(factor.device)].to(device) for factor in factors]
            part = Progress(**_tensors_of(progress, share))
            return part_factors, part, engine.advance(part_factors, _part(problem, share), part, length)

        with ThreadPoolExecutor(len(shares)) as pool:
            done = list(pool.map(work, shares, self.engines, self.devices))
        with torch.no_grad():
            for share, (part_factors, part, _) in zip(shares, done, strict=True):
                for factor, advanced in zip(factors, part_factors, strict=True):
                    factor[share.to(factor.device)] = advanced.to(factor.device)
                progress.put(share, part.state_dict())
        rows = [each for _, _, each in done]
        return Rows(
            torch.cat([share[each.run] for share, each in zip(shares, rows, strict=True)]),
            torch.cat([each.iteration for each in rows]),
            torch.cat([each.loss for each in rows]),
            torch.cat([each.time for each in rows]),
            [torch.cat([part.cpu() for part in parts]) for parts in zip(*(each.factors for each in rows), strict=True)],
        )


def _tensors_of(values: Any, share: Tensor) -> dict[str, Any]:
    """The tensors of a dataclass, for these runs alone."""
    tensors = {field.name: getattr(values, field.name) for field in fields(values)}
    return {name: value[share.to(value.device)] for name, value in tensors.items() if isinstance(value, Tensor)}


def _part(problem: Problem, share: Tensor) -> Problem:
    adaptive = None if problem.adaptive is None else Adaptive(**_tensors_of(problem.adaptive, share))
    flow = None if problem.flow is None else Flow(**_tensors_of(problem.flow, share))
    rule = None if problem.rule is None else _rule_part(problem.rule, share)
    plateau = None if problem.plateau is None else Plateau(**_tensors_of(problem.plateau, share))
    tensors = _tensors_of(problem, share)
    return Problem(**tensors, adaptive=adaptive, flow=flow, rule=rule, plateau=plateau, loss=problem.loss)


def _rule_part(rule: Rule, share: Tensor) -> Rule:
    noise = None if rule.noise is None else Noise(rule.noise.kinds, **_tensors_of(rule.noise, share))
    return Rule(rule.optimizer, **_tensors_of(rule, share), noise=noise)
