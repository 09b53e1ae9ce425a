"""Run in a process of its own with NUMBA_ENABLE_CUDASIM=1: the GPU's kernel, in numba-cuda's simulator.

Prints a line for each case whose final factors, progress and rows are not, bit for bit, those of the processor.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from helpers.engines import InTurn, ensemble, trained
from helpers.odd_factorizations import ODD, problem_of
from helpers.optimizing import optimized, with_rule
from helpers.own_factorizations import chain
from rankward.dynamics import Adaptive, FusedEngine, Problem, Schedule
from rankward.dynamics.cuda import CudaEngine
from rankward.dynamics.kernels.cuda_text import module
from rankward.dynamics.layouts import layout_of
from rankward.factorizations import Factorization
from rankward.optimizers import Adam, Momentum


def adaptive(problem: Problem) -> Problem:
    many = torch.ones_like(problem.eta)
    return replace(problem, adaptive=Adaptive(0.99 * many, 1e-3 * many))


def one_takes_up_what_the_other_began() -> bool:
    sizes, schedule = (2, 2, 2), Schedule(stride=10)
    _, factors, problem = ensemble(sizes, 4, max_iterations=67, eta=(1e-2, 3e-1))
    here = trained(FusedEngine(chain(sizes), schedule), factors, problem)
    there = trained(
        InTurn(FusedEngine(chain(sizes), schedule), CudaEngine(chain(sizes), schedule)), factors, problem, 20
    )
    return here[2] == there[2]


def with_warnings(factorization: Factorization, problem: Problem) -> None:
    """Room for numpy's warnings in the kernel's module: one that comes first in a thread changes what others iterate over."""
    layout = layout_of(
        factorization,
        problem.operator.shape[1:],
        problem.values.shape[1:],
        problem.eta.numpy().dtype.name,
        problem.rule,
    )
    module(layout.graph, layout.name, problem.dynamics).__dict__.setdefault("__warningregistry__", {})


def compare() -> int:
    wrong = 0
    cases = 0
    for dtype in (torch.float64, torch.float32):
        for sizes in ((2, 2), (2, 2, 2), (2, 2, 2, 2), (2,) * 6, (3, 2, 4)):
            for schedule in (Schedule(stride=10), Schedule(stride=5, every=20, stop_checks=2)):
                for rate in ("descent", "adaptive"):
                    _, factors, problem = ensemble(sizes, 4, dtype, 67, 0.02, eta=(1e-2, 3e-1))
                    problem.eta[3] = 1e4  # diverges
                    problem = adaptive(problem) if rate == "adaptive" else problem
                    here = trained(FusedEngine(chain(sizes), schedule), factors, problem)
                    cases += 1
                    for length in (10_000, 20):
                        there = trained(CudaEngine(chain(sizes), schedule), factors, problem, length)
                        same = all(
                            torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(here[0], there[0], strict=True)
                        )
                        same &= all(
                            torch.equal(value, there[1].state_dict()[name])
                            for name, value in here[1].state_dict().items()
                        )
                        if not (same and repr(here[2]) == repr(there[2])):
                            print(dtype, sizes, schedule, rate, length, "differ")
                            wrong += 1
    for name in ("tanh", "diagonal", "softmax", "powers"):
        for dtype in (torch.float64, torch.float32):
            for dynamics in ("descent", "adaptive"):
                factors, problem = problem_of(ODD[name], 4, dtype, dynamics, limit=67)
                here = trained(FusedEngine(ODD[name], Schedule(stride=10)), factors, problem)
                with_warnings(ODD[name], problem)
                there = trained(CudaEngine(ODD[name], Schedule(stride=10)), factors, problem, 20)
                cases += 1
                if not (all(map(torch.equal, here[0], there[0])) and here[2] == there[2]):
                    print(name, dtype, dynamics, "differ")
                    wrong += 1
    for optimizer in (Momentum(0.5, nesterov=True, weight_decay=0.1), Adam((0.8, 0.9))):
        for dtype in (torch.float64, torch.float32):
            _, factors, problem = ensemble((2, 2, 2), 4, dtype, 67, eta=(1e-3, 1e-2))
            problem = with_rule(problem, [optimizer] * 4)
            here = optimized(FusedEngine(chain((2, 2, 2)), Schedule(stride=10)), factors, problem)
            with_warnings(chain((2, 2, 2)), problem)
            there = optimized(CudaEngine(chain((2, 2, 2)), Schedule(stride=10)), factors, problem, 20)
            cases += 1
            same = all(map(torch.equal, here[0], there[0])) and torch.equal(here[1].state, there[1].state)
            if not (same and here[2] == there[2]):
                print(optimizer, dtype, "differ")
                wrong += 1
    print(f"{cases} cases")
    wrong += not one_takes_up_what_the_other_began()
    return wrong


if __name__ == "__main__":
    sys.exit(1 if compare() else 0)
