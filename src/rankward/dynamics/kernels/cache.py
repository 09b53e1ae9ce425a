"""Kernels as files: text is written once into a cache folder, imported, compiled, and kept on disk by numba.

The folder's name holds the version of the whole engine, since numba's cache does not notice an edit of a callee.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import llvmlite.binding
import numba
import platformdirs

from rankward.dynamics.graph import TRANSCENDENTAL, Graph
from rankward.dynamics.kernels import blocked, functions, registers, tiles, unrolled
from rankward.dynamics.kernels.flow import source as flow_stages
from rankward.dynamics.kernels.tableau import DORMAND_PRINCE
from rankward.numba_cache import compiled_at, forgive
from rankward.terminal import say

HERE = Path(__file__).parent
UNROLLED_LIMIT = 1200  # operations: more take over five seconds to compile; it stays the faster form up to 2,600
ORDERED_LIMIT = 256  # side of square matrices up to which ordered sums lead BLAS
WIDTH = {"float64": 8, "float32": 16}  # runs in one 512-bit register

Kernel = Callable[..., None]


def form(graph: Graph) -> str:
    """How a graph is written; by its operations and sizes alone, so that a run's bits never depend on company.

    `unrolled`: scalar text of its own. `blocked`: instructions for a loop that is compiled once. `blas`: the same with
    the matrix products of BLAS, one run at a time.
    """
    if graph.operations <= UNROLLED_LIMIT:
        return "unrolled"
    return "blocked" if graph.side <= ORDERED_LIMIT else "blas"


def unrolled_kernel(graph: Graph, name: str, dynamics: str) -> Kernel:
    """The compiled `drive` of a graph's own text.

    Args:
        graph: of half sum and gradients.
        name: what the file is called, before a digest of its text.
    """
    text = _lanes(WIDTH[graph.dtype]) + unrolled_text(graph, dynamics) + _driver(dynamics)
    drive: Kernel = imported(named(name, text, dynamics, graph.dtype), text).drive
    return drive


def unrolled_text(graph: Graph, dynamics: str) -> str:
    """The text that a graph's kernels for a processor and for a GPU share: arithmetic and steps."""
    adaptive = dynamics == "adaptive"
    powers = functions.source(graph.dtype) if graph.functions.intersection(TRANSCENDENTAL) else ""
    return shared_text(adaptive) + powers + unrolled.source(graph, adaptive)


def named(name: str, text: str, dynamics: str, dtype: str) -> str:
    """A file's name for a text."""
    return f"{name}_{hashlib.sha256(text.encode()).hexdigest()[:8]}{suffix_of(dynamics)}_{dtype}"


@functools.cache
def blocked_kernels(kind: str, dtype: str, dynamics: str) -> Any:
    """Compiled `drive` and `evaluate` for the instructions of any graph.

    Args:
        kind: `lanes` for a register of runs at once, `single` for the same bits of one, `blas` for one by BLAS.
    """
    width = WIDTH[dtype]
    text = _lanes(width if kind == "lanes" else 1) + shared_text(dynamics == "adaptive") + "\n\n" + blocked.header()
    text += f'\ninstructions = numba.types.ExternalFunction("{_instructions(kind, dtype)}", {_signature(dtype)})\n'
    text += text_of("_blocked_source.py") + _driver(dynamics)
    return imported(f"blocked_{kind}{suffix_of(dynamics)}_{dtype}", text)


@functools.cache
def _instructions(kind: str, dtype: str) -> str:
    """The name by which kernels find the compiled loop over instructions: one for all dynamics, and compiled apart.

    A callee that numba sees is optimized again in each of its callers.
    """
    width, large = WIDTH[dtype], registers.has_large_registers()
    if kind == "lanes":
        text = _lanes(width) + functions.source(dtype) + registers.source(False, width, large)
    else:
        text = _lanes(1) + _wide(width) + f"from rankward.dynamics.kernels.lanes import fill{width} as fill_wide\n"
        text += functions.source(dtype, "fill_wide")
        text += registers.source(True, width, large) if kind == "single" else ""
        text += text_of("_single_source.py")
    text += text_of(f"_multiply_{kind}_source.py") + "\n\n" + blocked.header() + text_of("_instructions_source.py")
    name = f"instructions_{kind}{'' if large else '_small'}_{dtype}"
    address = compiled_at(imported(name, text).instructions, eval(_signature(dtype), {"numba": numba}))
    llvmlite.binding.add_symbol(f"rankward_{name}", address)
    return f"rankward_{name}"


def _signature(dtype: str) -> str:
    numbers, places = f"numba.types.CPointer(numba.types.{dtype})", "numba.types.CPointer(numba.int64)"
    return f"numba.void({numbers}, numba.int64, {places}, numba.int64, numba.int64, numba.int64)"


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
    return "\n\n" + (HERE / name).read_text(encoding="utf-8").split("# mypy: ignore-errors\n", 1)[1].lstrip("\n")


def _lanes(width: int) -> str:
    return (
        "import math\n\nimport numba\nimport numpy as np\n\n"
        "from rankward.dynamics.kernels.lanes import choose, draw, quotient, root\n"
        "from rankward.dynamics.kernels.lanes import exponent, mantissa, power_of_two\n"
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
    """Where kernels are kept: `RANKWARD_CACHE`, else the user's cache folder, else (read-only home) a temporary one.

    What lies there is executed. So it is the user's own folder, closed to all others, or a fresh one for this process.
    """
    wanted = os.environ.get("RANKWARD_CACHE")
    candidates = [Path(wanted)] if wanted else [platformdirs.user_cache_path("rankward")]
    candidates.append(Path(tempfile.gettempdir()) / f"rankward-{os.getuid() if hasattr(os, 'getuid') else 'cache'}")
    for candidate in candidates:
        folder = candidate / "kernels" / _version()
        try:
            candidate.parent.mkdir(parents=True, exist_ok=True)
            # A folder that the user has named may hold other things: it stays as it is.
            kept = _is_guarded(candidate) if str(candidate) == wanted else _is_private(candidate, close=True)
            if not (kept and _is_private(folder.parent, close=True) and _is_private(folder)):
                say(f"rankward: kernels are not kept in {folder}: others could write there", error=True)
                continue
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    fresh = Path(tempfile.mkdtemp(prefix="rankward-"))
    atexit.register(shutil.rmtree, fresh, ignore_errors=True)
    return fresh


def _is_guarded(folder: Path) -> bool:
    """Whether nobody but the user (and root) can replace what the user puts in a folder, made where it is missing."""
    folder.mkdir(exist_ok=True, mode=0o700)
    if not hasattr(os, "getuid"):
        return True
    found = folder.stat()
    open_to_others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX
    return found.st_uid in (os.getuid(), 0) and not open_to_others


def _is_private(folder: Path, close: bool = False) -> bool:
    """Whether a folder, made where it is missing, is the user's and nobody else can look into it or write there.

    Args:
        close: the user's own is closed to others where it is open, which says nothing of what is in it already.
    """
    folder.mkdir(exist_ok=True, mode=0o700)
    if not hasattr(os, "getuid"):
        return True
    found = folder.lstat()
    own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if own and close and stat.S_IMODE(found.st_mode) != 0o700:
        folder.chmod(0o700)
        return True
    return own and stat.S_IMODE(found.st_mode) == 0o700


def imported(name: str, text: str) -> Any:
    """The text as a module. The file is numba's to know it by: what is executed is the text."""
    path = cache_folder() / f"{name}.py"
    try:
        known = path.read_bytes()
    except FileNotFoundError:
        known = None
    if known != text.encode():
        if known is not None:
            say(f"rankward: {path} does not hold its kernel's text: written again", error=True)
        elif sys.stderr.isatty():  # seconds without a word otherwise, before the first bar
            say(f"compiling {name}, once: kept in {path.parent}", error=True)
        with tempfile.NamedTemporaryFile("wb", dir=path.parent, suffix=".tmp", delete=False) as file:
            file.write(text.encode())
        Path(file.name).replace(path)  # two processes may write at once; either text is the right one
    module = ModuleType(f"rankward_kernel_{_version()}_{name}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    exec(compile(text, str(path), "exec"), module.__dict__)
    forgive(module)
    return module
