"""The unrolled kernel for a GPU: the processor's text with other loads, compiled by numba-cuda.

Additions and multiplications are never fused, so a run has the bits of the processor. numba-cuda does not pass that
option on to its compiler, so it is put in where it calls NVVM; a kernel with a fused operation is refused.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import threading
from collections.abc import Iterator
from typing import Any

from rankward import private_apis
from rankward.dynamics.graph import Graph
from rankward.dynamics.kernels.cache import check_text, imported, named, text_of, unrolled_text

ONE_AT_A_TIME = threading.Lock()  # threads of several devices compile and launch in turn; a launch does not wait

HEAD = """import functools
import math

import numpy as np
from numba import config, cuda

REAL = np.{dtype}
# Link-time optimization compiles again and fuses. The simulator knows no such option. `@cuda.jit(lto=False)` drops it:
# numba-cuda keeps it only where `cuda.jit` gets the function itself.
jit = functools.partial(cuda.jit, **({{}} if config.ENABLE_CUDASIM else {{"lto": False}}))
device = functools.partial(jit, device=True)
"""


def source(graph: Graph, dynamics: str) -> str:
    """The text of a graph's kernel: `drive`, and what it calls."""
    text = HEAD.format(dtype=graph.dtype) + text_of("_cuda_source.py") + unrolled_text(graph, dynamics)
    text += check_text() + text_of("_cuda_driver_source.py")
    return text.replace("@numba.njit(cache=True, nogil=True)", "@device")


def module(graph: Graph, name: str, dynamics: str) -> Any:
    """Import the kernel's text; its functions are compiled at their first call.

    Args:
        name: name of the factorization.
    """
    text = source(graph, dynamics)
    return _imported(named(f"cuda_{name}", text, dynamics, graph.dtype), text)


_imported = functools.cache(imported)


@contextlib.contextmanager
def strict() -> Iterator[None]:
    """Keep NVVM from fusing multiplications with additions inside this context, and numba from warning of small grids.

    Raises:
        RuntimeError: a kernel has a fused operation all the same.
    """
    config: Any = importlib.import_module("numba").config
    if config.ENABLE_CUDASIM:  # nothing is compiled
        yield
        return
    nvvm = private_apis.nvvm()

    def unfused(ir: Any, **options: Any) -> Any:
        assembly = compile_ir(ir, **(options | {"fma": False}))
        if b"fma.rn" in assembly or "gen-lto" in options:
            raise RuntimeError("this version of numba-cuda fuses multiplications with additions")
        return assembly

    with ONE_AT_A_TIME:
        compile_ir, nvvm.compile_ir = nvvm.compile_ir, unfused
        warn, config.CUDA_LOW_OCCUPANCY_WARNINGS = config.CUDA_LOW_OCCUPANCY_WARNINGS, 0
        try:
            yield
        finally:
            nvvm.compile_ir, config.CUDA_LOW_OCCUPANCY_WARNINGS = compile_ir, warn
