"""Kernels as files: text is written once into a cache folder, imported, compiled, and kept on disk by numba.

The folder's name holds the version of the whole engine, since numba's cache does not notice an edit of a callee.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import llvmlite
import numba
import platformdirs
from tqdm import tqdm

from rankward.dynamics.kernels import straight, tiles
from rankward.dynamics.kernels.flow import source as flow_stages
from rankward.dynamics.kernels.tableau import DORMAND_PRINCE

HERE = Path(__file__).parent
STRAIGHT_LIMIT = 400  # multiplications; about a second of compile time
STRICT_LIMIT = 64  # largest dimension for which ordered sums lead BLAS
WIDTH = {"float64": 8, "float32": 16}  # runs in one 512-bit register

Kernel = Callable[..., None]


def family(sizes: Sequence[int]) -> str:
    """Which arithmetic a chain of these sizes gets; by shape alone, so that a run's bits never depend on company.

    Example:
        >>> family([2, 2, 2, 2]), family([10, 10, 10]), family([100, 100, 100])
        ('straight', 'strict', 'blas')
    """
    if straight.multiplications(sizes) <= STRAIGHT_LIMIT:
        return "straight"
    return "strict" if max(sizes) <= STRICT_LIMIT else "blas"


@functools.cache
def chain_kernel(sizes: tuple[int, ...], dtype: str, single: bool, dynamics: str) -> Kernel:
    """The compiled `drive` for a chain of matrices; `single` asks for the text that serves one run at a time.

    Both texts of the strict family give the same bits; the straight one needs no twin, the BLAS one has no lanes.
    """
    kind, adaptive = family(sizes), dynamics == "adaptive"
    name, text = kind, ""
    if kind == "straight":
        name = f"straight_{'_'.join(map(str, sizes))}"
        text = _lanes(WIDTH[dtype]) + shared_text(adaptive) + straight.source(sizes, adaptive)
    elif kind == "strict" and not single:
        text = (
            _lanes(WIDTH[dtype])
            + shared_text(adaptive)
            + text_of("_multiply_lanes_source.py")
            + text_of("_chain_source.py")
        )
    elif kind == "strict":
        text = _lanes(1) + _wide(WIDTH[dtype]) + shared_text(adaptive)
        text += text_of("_multiply_single_source.py") + text_of("_chain_source.py")
    else:
        text = _lanes(1) + shared_text(adaptive) + text_of("_multiply_blas_source.py") + text_of("_chain_source.py")
    suffix = ("_single" if single and kind == "strict" else "") + suffix_of(dynamics)
    drive: Kernel = imported(f"{name}{suffix}_{dtype}", text + _driver(dynamics)).drive
    return drive


def suffix_of(dynamics: str) -> str:
    return "" if dynamics == "descent" else f"_{dynamics}"


def _driver(dynamics: str) -> str:
    flow = dynamics == "flow"
    own = flow_stages(DORMAND_PRINCE) + text_of("_flow_source.py") if flow else text_of("_descent_source.py")
    return f"\nFLOW = {flow}\n{own}{text_of('_driver_source.py')}"


@functools.cache
def cp_kernels(vectors: int, dtype: str, dynamics: str) -> Any:
    """Compiled `drive` and `tensors` for CP factors of any order and sizes, so many vectors of components a chunk."""
    width = WIDTH[dtype]
    text = (
        _lanes(1)
        + _wide(width)
        + f"from rankward.dynamics.kernels.lanes import sums{width}\n"
        + shared_text(dynamics == "adaptive")
    )
    text += "\n\n" + tiles.source(vectors, width) + text_of("_cp_source.py") + _driver(dynamics)
    return imported(f"cp_{vectors}{suffix_of(dynamics)}_{dtype}", text)


def text_of(name: str) -> str:
    return "\n\n" + (HERE / name).read_text().split("# mypy: ignore-errors\n", 1)[1].lstrip("\n")


def _lanes(width: int) -> str:
    return (
        "import numba\nimport numpy as np\n\n"
        "from rankward.dynamics.kernels.lanes import choose, draw, quotient, root\n"
        f"from rankward.dynamics.kernels.lanes import load{width} as load, store{width} as store, fill{width} as fill\n"
        "\n"
        f"LANES = {width}\n"
    )


def shared_text(adaptive: bool) -> str:
    return f"\nADAPTIVE = {adaptive}\n" + text_of("_shared_source.py")


def _wide(width: int) -> str:
    names = ", ".join(f"{name}{width} as {alias}" for name, alias in
                      (("load", "load_wide"), ("store", "store_wide"), ("spread", "spread")))  # fmt: skip
    return f"from rankward.dynamics.kernels.lanes import {names}\n\nWIDE = {width}\n"


@functools.cache
def _version() -> str:
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__} {sys.version}".encode())
    for path in sorted(HERE.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@functools.cache
def cache_folder() -> Path:
    """Where kernels are kept: `RANKWARD_CACHE`, else the user's cache folder, else (read-only home) a temporary one."""
    wanted = os.environ.get("RANKWARD_CACHE")
    candidates = [Path(wanted)] if wanted else [platformdirs.user_cache_path("rankward")]
    candidates.append(Path(tempfile.gettempdir()) / f"rankward-{os.getuid() if hasattr(os, 'getuid') else 'cache'}")
    for candidate in candidates:
        folder = candidate / "kernels" / _version()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    return Path(tempfile.mkdtemp(prefix="rankward-"))


def imported(name: str, text: str) -> Any:
    path = cache_folder() / f"{name}.py"
    if not path.exists():
        if sys.stderr.isatty():  # seconds without a word otherwise, before the first bar
            tqdm.write(f"compiling {name}, once: kept in {path.parent}", file=sys.stderr)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as file:
            file.write(text)
        Path(file.name).replace(path)  # two processes may write at once; either text is the right one
    module_name = f"rankward_kernel_{_version()}_{name}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    return module
