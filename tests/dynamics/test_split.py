"""Runs split over devices end with the bits that they have together; here two devices are the processor, twice."""

from dataclasses import replace

import pytest
import torch

from helpers.engines import ensemble, trained
from helpers.own_factorizations import chain
from rankward.dynamics import Adaptive, FusedEngine, Schedule, SplitEngine

HERE = torch.device("cpu")


@pytest.mark.parametrize("devices", [1, 2, 3, 40])
@pytest.mark.parametrize("adaptive", [False, True])
def test_a_split_changes_nothing(devices, adaptive):
    sizes, schedule = (2, 2, 2, 2), Schedule()
    _, factors, problem = ensemble(sizes, 13, max_iterations=620, stop_loss=0.3, eta=(1e-4, 2e-2))
    many = torch.ones_like(problem.eta)
    problem = replace(problem, adaptive=Adaptive(0.9 * many, many)) if adaptive else problem
    engines = [FusedEngine(chain(sizes), schedule, threads=1) for _ in range(devices)]
    whole = trained(FusedEngine(chain(sizes), schedule), factors, problem, 150)
    split = trained(SplitEngine(engines, [HERE] * devices), factors, problem, 150)
    assert len(set(whole[1].iteration.tolist())) > 1
    assert all(torch.equal(a, b) for a, b in zip(whole[0], split[0], strict=True))
    assert all(torch.equal(a, split[1].state_dict()[name]) for name, a in whole[1].state_dict().items())
    assert whole[2] == split[2]
