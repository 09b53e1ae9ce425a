"""The GPU's kernel, without a GPU: in numba-cuda's simulator, and as assembly for two generations of cards."""

import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers.engines import OnCard, ensemble, trained
from helpers.odd_factorizations import ODD, problem_of
from helpers.optimizing import optimized, with_rule
from helpers.own_factorizations import chain
from rankward.config.extras import MissingPackage
from rankward.dynamics import FusedEngine, Schedule, Status
from rankward.dynamics.cuda import CudaEngine
from rankward.dynamics.kernels.cuda_text import module
from rankward.dynamics.layouts import layout_of
from rankward.dynamics.state import Plateau
from rankward.losses import L1, Huber
from rankward.optimizers import Adam, Cosine, Momentum, Scheduled, Spectral

installed = pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="needs numba-cuda: .[gpu]")
HELPERS = Path(__file__).parent.parent / "helpers"


@installed
@pytest.mark.slow
def test_the_simulator_gives_the_bits_of_the_processor():
    """Chains, dtypes, rates, optimizers, schedules; runs that converge, diverge, reach their limit; chunks that fill up."""
    command = [sys.executable, "-W", "ignore", str(HELPERS / "simulated.py")]
    done = subprocess.run(command, env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "60 cases\n"), done.stdout + done.stderr


@installed
@pytest.mark.slow
@pytest.mark.parametrize("dynamics", ["descent", "adaptive"])
@pytest.mark.parametrize("capability", [(8, 0), (9, 0)])
def test_no_fused_operation_and_nothing_spilled(capability, dynamics, tmp_path):
    odd = [ODD[name] for name in ("tanh", "filled in place")]
    for factorization in [*(chain((2,) * (depth + 1)) for depth in range(2, 7)), *odd]:
        for dtype in ("float64", "float32"):
            assembled(factorization, dtype, dynamics, capability, tmp_path)


@installed
@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "dtype"),
    [(Adam(), "float64"), (Scheduled(Momentum(), Cosine(5, 50)), "float64"), (Spectral(), "float32")],
    ids=["adam", "cosine", "spectral"],
)
def test_no_fused_operation_and_nothing_spilled_in_steps_of_optimizers(optimizer, dtype, tmp_path):
    """Depth 2: at depth 3 in float64, the numbers that Adam keeps do not all have a register."""
    assembled(chain((2, 2, 2)), dtype, "optimizer", (9, 0), tmp_path, optimizer)


def assembled(factorization, dtype, dynamics, capability, folder, optimizer=None):
    """The kernel's assembly, which is looked through and assembled."""
    from helpers.device_code import ptx

    assembler = next(Path(sys.prefix).glob("lib/python*/site-packages/nvidia/cu*/bin/ptxas"), None)
    text = ptx(factorization, dtype, dynamics, capability, optimizer)
    assert f".target sm_{capability[0]}{capability[1]}" in text and "mul.rn" in text
    assert not re.search(r"\bfma\.|\.approx|\.ftz", text)
    if assembler is None:
        pytest.skip("spills are not looked for: no ptxas (nvidia-cuda-nvcc)")
    (folder / "kernel.ptx").write_text(text)
    command = [assembler, "-v", f"-arch=sm_{capability[0]}{capability[1]}", folder / "kernel.ptx"]
    done = subprocess.run([*command, "-o", folder / "kernel"], capture_output=True, text=True, check=True)
    assert "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in done.stderr, done.stderr


@installed
@pytest.mark.slow
def test_nothing_is_optimized_at_link_time():
    """It would compile the kernel again, and fuse: on a card, after the assembly that the tests above read."""
    layout = layout_of(chain((2, 2, 2)), (2, 2), (2, 2), "float64")
    functions = vars(module(layout.graph, layout.name, "descent")).values()
    options = [each.targetoptions["lto"] for each in functions if hasattr(each, "targetoptions")]
    assert len(options) > 10 and not any(options)


def test_missing_compiler_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba_cuda", None)
    with pytest.raises(MissingPackage, match="numba-cuda"):
        CudaEngine(chain((2, 2, 2)), Schedule())


def test_problems_that_the_kernel_serves():
    small, large = (layout_of(chain((d, d, d)), (d, d), (d, d), "float64") for d in (2, 20))
    assert CudaEngine.serves(small, "adaptive")
    assert not CudaEngine.serves(small, "flow") and not CudaEngine.serves(large, "descent")
    assert not CudaEngine.serves(None, "descent")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("sizes", [(2, 2, 2), (2, 2, 2, 2), (2,) * 7, (3, 2, 4)])
def test_a_card_gives_the_bits_of_the_processor(sizes, dtype):
    _, factors, problem = ensemble(sizes, 200, dtype, 5000, 0.02, eta=(1e-3, 3e-1))
    here = trained(FusedEngine(chain(sizes), Schedule()), factors, problem)
    there = trained(OnCard(CudaEngine(chain(sizes), Schedule())), factors, problem)
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(here[0], there[0], strict=True))
    assert repr(here[2]) == repr(there[2])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dynamics", ["descent", "adaptive"])
@pytest.mark.parametrize("name", ODD)
def test_a_card_gives_the_bits_of_the_processor_for_factorizations_of_ones_own(name, dynamics):
    factorization = ODD[name]
    factors, problem = problem_of(factorization, 40, torch.float64, dynamics, limit=500)
    here = trained(FusedEngine(factorization, Schedule(stride=10)), factors, problem)
    there = trained(OnCard(CudaEngine(factorization, Schedule(stride=10))), factors, problem, 200)
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(here[0], there[0], strict=True))
    assert repr(here[2]) == repr(there[2])


CASES = {
    "adam": [Adam(), Adam(betas=(0.5, 0.9))],
    "cosine": [Scheduled(Momentum(), Cosine(warmup_steps=each, decay_steps=800)) for each in (0, 50)],
    "spectral": [Spectral(), Spectral(momentum=0.5)],
}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("case", CASES)
def test_a_card_gives_the_bits_of_the_processor_for_optimizers(case):
    sizes = (2, 2, 2)
    _, factors, problem = ensemble(sizes, 40, torch.float64, 1000, 0.02, eta=(1e-3, 1e-1))
    problem = with_rule(problem, [CASES[case][run % 2] for run in range(40)])
    here = optimized(FusedEngine(chain(sizes), Schedule()), factors, problem)
    there = optimized(OnCard(CudaEngine(chain(sizes), Schedule())), factors, problem, 300)
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(here[0], there[0], strict=True))
    assert repr(here[2]) == repr(there[2])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    "change", [{"loss": Huber(0.3)}, {"loss": L1()}, {"plateau": (100, 0.05)}], ids=["huber", "l1", "plateau"]
)
def test_a_card_gives_the_bits_of_the_processor_for_losses_and_plateaus(change):
    sizes, runs = (2, 2, 2), 40
    _, factors, problem = ensemble(sizes, runs, torch.float64, 2000, 1e-3, eta=(1e-3, 1e-1))
    if "plateau" in change:
        window, tolerance = change["plateau"]
        change = {"plateau": Plateau(torch.full((runs,), window), torch.full((runs,), tolerance, dtype=torch.float64))}
    problem = replace(problem, **change)
    here = trained(FusedEngine(chain(sizes), Schedule()), factors, problem)
    there = trained(OnCard(CudaEngine(chain(sizes), Schedule())), factors, problem, 300)
    assert torch.equal(here[1].status, there[1].status)
    assert "plateau" not in change or (here[1].status == Status.PLATEAU).any()
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(here[0], there[0], strict=True))
    assert repr(here[2]) == repr(there[2])
