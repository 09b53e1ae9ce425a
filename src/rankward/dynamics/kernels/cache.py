"""Cache of compiled kernels: generated text is written to a folder once, imported, and compiled and cached by numba.

The name of the folder contains a digest of the engine, since numba's cache does not notice an edited callee.
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
from rankward.dynamics.kernels import blocked, functions, registers, rosenbrock, tiles, unrolled, words
from rankward.dynamics.kernels.flow import FLOWS
from rankward.dynamics.kernels.flow import source as flow_stages
from rankward.dynamics.kernels.tableau import DORMAND_PRINCE
from rankward.dynamics.kernels.texts import check_text, text_of
from rankward.dynamics.state import ALONG_GRADIENT
from rankward.dynamics.tracing import trace_rate
from rankward.numba_cache import compiled_at, forgive
from rankward.terminal import say, shows_progress

HERE = Path(__file__).parent
UNROLLED_LIMIT = 1200  # operations: more take over five seconds to compile (unrolled text is faster up to 2,600)
ORDERED_LIMIT = 256  # side of square matrices up to which ordered sums are faster than BLAS
WIDTH = {"float64": 8, "float32": 16}  # runs in one 512-bit register

Kernel = Callable[..., None]


def form(graph: Graph) -> str:
    """The form of a graph's kernel. It depends on operations and sizes alone, so bits never depend on the other runs.

    `unrolled`: scalar text for this graph. `blocked`: instructions for a loop that is compiled once. `blas`: the same
    with matrix products by BLAS, one run at a time.
    """
    if graph.operations <= UNROLLED_LIMIT:
        return "unrolled"
    return "blocked" if graph.side <= ORDERED_LIMIT else "blas"


def unrolled_kernel(graph: Graph, name: str, dynamics: str) -> Kernel:
    """Compile the `drive` of a graph's unrolled text.

    Args:
        graph: of half sum and gradients, or of half sum and an optimizer's step.
        name: first part of the file name, before a digest of the text.
    """
    text = lanes_text(WIDTH[graph.dtype]) + unrolled_text(graph, dynamics) + _driver(dynamics)
    drive: Kernel = imported(named(name, text, dynamics, graph.dtype), text).drive
    return drive


def unrolled_text(graph: Graph, dynamics: str) -> str:
    """The text of arithmetic and steps, shared by a graph's kernels for a processor and for a GPU."""
    shared = shared_text(dynamics, graph.dtype)
    powers = functions.source(graph.dtype) if graph.functions.intersection(TRANSCENDENTAL) else ""
    if graph.replaced:
        noise = _noise_text(WIDTH[graph.dtype], graph.dtype) if graph.noise else ""
        return shared + powers + noise + unrolled.step_source(graph)
    return shared + powers + unrolled.source(graph, uses_square(dynamics))


def named(name: str, text: str, dynamics: str, dtype: str) -> str:
    """The file name of a text."""
    return f"{name}_{hashlib.sha256(text.encode()).hexdigest()[:8]}{suffix_of(dynamics)}_{dtype}"


@functools.cache
def blocked_kernels(kind: str, dtype: str, dynamics: str) -> Any:
    """Compiled `drive` and `evaluate` for the instructions of any graph.

    Args:
        kind: `lanes` for a register of runs at once, `single` for the same bits of one, `blas` for one by BLAS.
        dynamics: as in `Problem.dynamics`, or `noisy` for an optimizer whose steps have a random part.
    """
    lanes, noisy = WIDTH[dtype] if kind == "lanes" else 1, dynamics == "noisy"
    text = lanes_text(lanes) + shared_text(dynamics, dtype) + "\n\n" + blocked.header() + f"NOISY = {noisy}\n"
    text += _noise_text(lanes, dtype) if noisy else ""
    text += f'\ninstructions = numba.types.ExternalFunction("{_instructions(kind, dtype)}", {_signature(dtype)})\n'
    stepped = dynamics in ("optimizer", "noisy")
    step = "_blocked_optimizer_source.py" if stepped else "_blocked_descent_source.py"
    text += text_of("_blocked_source.py") + text_of(step) + _driver(dynamics)
    return imported(f"blocked_{kind}{suffix_of(dynamics)}_{dtype}", text)


@functools.cache
def _instructions(kind: str, dtype: str) -> str:
    """The symbol of the compiled loop over instructions, which all dynamics share.

    It is compiled separately, since numba optimizes a visible callee again in each of its callers.
    """
    width, large = WIDTH[dtype], registers.has_large_registers()
    if kind == "lanes":
        text = lanes_text(width) + functions.source(dtype) + registers.source(False, width, large)
    else:
        text = lanes_text(1) + _wide(width) + f"from rankward.dynamics.kernels.lanes import fill{width} as fill_wide\n"
        text += functions.source(dtype, "fill_wide")
        text += registers.source(True, width, large) if kind == "single" else ""
        text += text_of("_single_source.py")
    text += text_of(f"_multiply_{kind}_source.py") + "\n\n" + blocked.header() + text_of("_instructions_source.py")
    name = f"instructions_{kind}{'' if large else '_small'}_{dtype}"
    address = compiled_at(imported(name, text).instructions, eval(_signature(dtype), {"numba": numba}))
    llvmlite.binding.add_symbol(f"rankward_{name}", address)
    return f"rankward_{name}"


@functools.cache
def _noise_text(lanes: int, dtype: str) -> str:
    """The text that declares `disturb`, which is compiled once for all graphs."""
    text = lanes_text(1).replace("LANES = 1", f"LANES = {lanes}")
    text += "from rankward.dynamics.kernels.lanes import fill8, load8, spread8, store8\n"
    text += f"from rankward.dynamics.kernels.words import {', '.join(words.INTRINSICS)}\n\n"
    text += f"PAD = {blocked.PAD}\n" + words.header()
    text += functions.normal_source("fill_double")
    text += text_of("_noise_source.py")
    name = f"noise_{lanes}_{dtype}"
    address = compiled_at(imported(name, text).disturb, eval(_noise_signature(dtype), {"numba": numba}))
    llvmlite.binding.add_symbol(f"rankward_{name}", address)
    return f'\ndisturb = numba.types.ExternalFunction("rankward_{name}", {_noise_signature(dtype)})\n'


def _noise_signature(dtype: str) -> str:
    return f"numba.void(numba.types.CPointer(numba.types.{dtype}), {', '.join(['numba.int64'] * 7)})"


def _signature(dtype: str) -> str:
    numbers, places = f"numba.types.CPointer(numba.types.{dtype})", "numba.types.CPointer(numba.int64)"
    return f"numba.void({numbers}, numba.int64, {places}, numba.int64, numba.int64, numba.int64)"


def suffix_of(dynamics: str) -> str:
    return "" if dynamics == "descent" else f"_{dynamics}"


def _driver(dynamics: str, steps: str = "") -> str:
    """The text that drives a family's kernel; `steps` replaces the explicit method of a flow."""
    flow = dynamics in FLOWS
    explicit = flow_stages(DORMAND_PRINCE) + text_of("_flow_source.py")
    dynamics_text = text_of("_flow_time_source.py") + (steps or explicit) if flow else text_of("_descent_source.py")
    decays = f"DECAYS = {dynamics == 'decaying_flow'}\n" if flow else ""
    return f"\nFLOW = {flow}\n{decays}{check_text()}{dynamics_text}{text_of('_driver_source.py')}"


@functools.cache
def cp_kernels(vectors: int, dtype: str, dynamics: str) -> Any:
    """Compiled `drive` and `tensors` for CP factors of any order and sizes, so many vectors of components a chunk."""
    width = WIDTH[dtype]
    text = (
        lanes_text(1)
        + _wide(width)
        + f"from rankward.dynamics.kernels.lanes import sums{width}\n"
        + shared_text(dynamics, dtype)
    )
    text += "\n\n" + tiles.source(vectors, width) + text_of("_cp_source.py") + _driver(dynamics)
    return imported(f"cp_{vectors}{suffix_of(dynamics)}_{dtype}", text)


@functools.cache
def singular_kernel() -> Kernel:
    """Compiled `drive` for a flow in singular coordinates, of any size and depth, with weight decay or without."""
    text = lanes_text(1) + shared_text("decaying_flow", "float64") + functions.source("float64") + rosenbrock.source()
    text += _driver("decaying_flow", text_of("_singular_source.py"))
    drive: Kernel = imported("singular_float64", text).drive
    return drive


@functools.cache
def indexed_kernels(kind: str, width: int, dtype: str) -> Any:
    """Compiled `predict` and `gather` (of a chain) or `gradients` (of components) for observed entries by index.

    Args:
        kind: `chain` or `components`.
        width: numbers of a vector: `WIDTH[dtype]`, or fewer for few components.
        dtype: of the runs.
    """
    names = [f"{name}{width} as {name}" for name in ("load", "store", "fill")]
    names += [f"sums{width} as sums", f"spread{width} as spread"] if kind == "chain" else []
    text = "import numba\nimport numpy as np\n\n"
    text += f"from rankward.dynamics.kernels.lanes import {', '.join(names)}\n\nWIDE = {width}\n"
    text += _dots(width) if kind == "chain" else ""
    return imported(f"indexed_{kind}_{width}_{dtype}", text + text_of(f"_indexed_{kind}_source.py"))


def _dots(width: int) -> str:
    """Text of `dots`: so many scalar products of rows at once, each over one vector, which are then added up.

    Places behind the last one are those of the last one again, and are not written.
    """
    lanes = range(width)
    head = "begin, last, places, rows, cols, a, b, size, out"
    lines = ["", "", "@numba.njit(cache=True, nogil=True)", f"def dots({head}):"]
    for lane in lanes:
        lines += [
            f"    p{lane} = places[min(begin + {lane}, last)]",
            f"    i{lane}, j{lane} = rows[p{lane}] * size, cols[p{lane}] * size",
            f"    s{lane} = load(a, i{lane}) * load(b, j{lane})",
        ]
    lines += ["    for at in range(WIDE, size, WIDE):"]
    lines += [f"        s{lane} = s{lane} + load(a, i{lane} + at) * load(b, j{lane} + at)" for lane in lanes]
    lines += [f"    total = sums(({', '.join(f's{lane}' for lane in lanes)}))"]
    lines += ["    if begin + WIDE <= last + 1:", "        store(out, begin, total)", "        return"]
    lines += ["    lanes = np.empty(WIDE, out.dtype)", "    store(lanes, 0, total)"]
    lines += ["    for at in range(last + 1 - begin):", "        out[begin + at] = lanes[at]"]
    return "\n".join(lines) + "\n"


def lanes_text(width: int) -> str:
    return (
        "import math\n\nimport numba\nimport numpy as np\n\n"
        "from rankward.dynamics.kernels.lanes import choose, draw, quotient, root\n"
        "from rankward.dynamics.kernels.lanes import exponent, mantissa, power_of_two\n"
        f"from rankward.dynamics.kernels.lanes import load{width} as load, store{width} as store, fill{width} as fill\n"
        "\n"
        f"LANES = {width}\n"
    )


def uses_square(dynamics: str) -> bool:
    """Whether the size of a step along the gradient depends on the squared norm of the gradients."""
    return dynamics in ALONG_GRADIENT and ALONG_GRADIENT[dynamics].uses_square


def shared_text(dynamics: str, dtype: str) -> str:
    """Text of memory; and the size of a step along the gradient, from the optimizer that is one of `ALONG_GRADIENT`."""
    text = text_of("_shared_source.py")
    if dynamics not in ALONG_GRADIENT:
        return text
    rate = unrolled.rate_source(trace_rate(ALONG_GRADIENT[dynamics], dtype))
    return f"\nUSES_SQUARE = {uses_square(dynamics)}\n{text}{rate}"


def _wide(width: int) -> str:
    names = ", ".join(f"{name}{width} as {alias}" for name, alias in
                      (("load", "load_wide"), ("store", "store_wide"), ("spread", "spread")))  # fmt: skip
    return f"from rankward.dynamics.kernels.lanes import {names}\n\nWIDE = {width}\n"


@functools.cache
def sources_digest() -> str:
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__} {sys.version}".encode())
    for path in sorted([*HERE.glob("*.py"), *(HERE.parents[1] / "optimizers").glob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@functools.cache
def cache_folder() -> Path:
    """The cache folder: `RANKWARD_CACHE`, else the user's cache folder, else (read-only home) a temporary folder.

    Its files are executed. So it must belong to the user and be closed to others, or be new for this process.
    """
    configured = os.environ.get("RANKWARD_CACHE")
    candidates = [Path(configured)] if configured else [platformdirs.user_cache_path("rankward")]
    candidates.append(Path(tempfile.gettempdir()) / f"rankward-{os.getuid() if hasattr(os, 'getuid') else 'cache'}")
    for candidate in candidates:
        folder = candidate / "kernels" / sources_digest()
        try:
            candidate.parent.mkdir(parents=True, exist_ok=True)
            # A folder that the user has named may hold other files: its mode is not changed.
            safe = _is_guarded(candidate) if str(candidate) == configured else _is_private(candidate, close=True)
            if not (safe and _is_private(folder.parent, close=True) and _is_private(folder)):
                say(f"rankward: kernels are not kept in {folder}: others could write there", error=True)
                continue
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    temporary = Path(tempfile.mkdtemp(prefix="rankward-"))
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    return temporary


def _is_guarded(folder: Path) -> bool:
    """Create a folder if it is missing; return whether only the user (and root) can replace its files."""
    folder.mkdir(exist_ok=True, mode=0o700)
    if not hasattr(os, "getuid"):
        return True
    status = folder.stat()
    open_to_others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
    return status.st_uid in (os.getuid(), 0) and not open_to_others


def _is_private(folder: Path, close: bool = False) -> bool:
    """Create a folder if it is missing; return whether it belongs to the user and is closed to others.

    Args:
        close: close an open folder of the user to others first; files already in it are not checked.
    """
    folder.mkdir(exist_ok=True, mode=0o700)
    if not hasattr(os, "getuid"):
        return True
    status = folder.lstat()
    owned = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    if owned and close and stat.S_IMODE(status.st_mode) != 0o700:
        folder.chmod(0o700)
        return True
    return owned and stat.S_IMODE(status.st_mode) == 0o700


def imported(name: str, text: str) -> Any:
    """Import a text as a module. numba identifies it by the file; the text itself is executed."""
    path = cache_folder() / f"{name}.py"
    try:
        known = path.read_bytes()
    except FileNotFoundError:
        known = None
    if known != text.encode():
        if known is not None:
            say(f"rankward: {path} does not hold its kernel's text: written again", error=True)
        elif shows_progress():  # compiling takes seconds, before the first progress bar
            say(f"compiling {name}, once: kept in {path.parent}", error=True)
        with tempfile.NamedTemporaryFile("wb", dir=path.parent, suffix=".tmp", delete=False) as file:
            file.write(text.encode())
        Path(file.name).replace(path)  # two processes may write at once; both write the same text
    module = ModuleType(f"rankward_kernel_{sources_digest()}_{name}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    exec(compile(text, str(path), "exec"), module.__dict__)
    forgive(module)
    return module
