"""Command lines in processes that start with all imports done: a fork of one process that has imported them.

Importing PyTorch and Lightning takes seconds of each process. What a command does is the same; tests of how it starts
(imports, environment variables, signals) start it with `subprocess`. So does this module where the environment has
changed since its first command, since imports may have read it, and on systems other than Linux.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path

IMPORTED = (
    "rankward.cli", "rankward.commands", "rankward.training", "rankward.training.job", "rankward.sweeps.runner",
    "rankward.sweeps.callback", "rankward.report", "rankward.figures", "rankward.paper", "hydra.main", "torchmetrics",
    "numba", "polars", "safetensors.numpy", "safetensors.torch", "pydantic", "requests", "click", "plotly.offline", "jinja2",
)  # fmt: skip


def rankward(*arguments: str, cwd: Path, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """`python -m rankward` with these arguments in a folder, as `subprocess.run` gives it."""
    return _run({"module": "rankward", "arguments": [str(each) for each in arguments]}, cwd, timeout)


def python(code: str, *, cwd: Path, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """`python -c code` in a folder."""
    return _run({"code": code}, cwd, timeout)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


def _run(asked: dict[str, object], cwd: Path, timeout: float) -> subprocess.CompletedProcess[str]:
    if not available():
        command = ["-m", asked["module"], *asked["arguments"]] if "module" in asked else ["-c", asked["code"]]
        return subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, timeout=timeout)
    with contextlib.ExitStack() as files:
        out, err = (files.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8")) for _ in range(2))
        none = files.enter_context(Path(os.devnull).open("rb"))
        request = json.dumps(asked | {"cwd": str(cwd), "environment": _environment()}).encode()
        with _server() as server:
            server.settimeout(timeout)
            files_of_child = [each.fileno() for each in (none, out, err)]
            socket.send_fds(server, [len(request).to_bytes(8, "big")], files_of_child)
            server.sendall(request)
            process = int.from_bytes(server.recv(8), "big")
            try:
                code = int.from_bytes(server.recv(8), "big", signed=True)
            except TimeoutError:
                os.kill(process, signal.SIGKILL)
                raise subprocess.TimeoutExpired(str(asked), timeout) from None
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read())
    return subprocess.CompletedProcess(["python", *map(str, asked.values())], code, *texts)


_address: Path | None = None
_started_with: dict[str, str] = {}


def available() -> bool:
    """Whether a fork has what this environment asks for."""
    return sys.platform == "linux" and (_address is None or _environment() == _started_with)


def _server() -> socket.socket:
    """A connection to the process that is forked; the first one starts it."""
    global _address
    if _address is None:
        _started_with.update(_environment())
        folder = tempfile.TemporaryDirectory()
        _address = Path(folder.name) / "socket"
        process = subprocess.Popen(
            [sys.executable, __file__, str(_address)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        atexit.register(folder.cleanup)
        atexit.register(process.kill)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(_address))
    return connection


def serve(address: str) -> dict[str, object]:
    """Fork for each request; a child returns its request, and the server never returns."""
    import importlib

    for name in IMPORTED:
        with contextlib.suppress(ModuleNotFoundError):  # of an extra: the command says so if it needs it
            importlib.import_module(name)
    assert threading.active_count() == 1, threading.enumerate()  # those of OpenBLAS and jemalloc survive a fork
    gc.collect()
    gc.freeze()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print("ready", flush=True)
    waiting = selectors.DefaultSelector()
    waiting.register(listener, selectors.EVENT_READ)
    waiting.register(sys.stdin, selectors.EVENT_READ)  # it closes when the tests end, also when they are killed
    while True:
        for key, _ in waiting.select():
            if key.fileobj is sys.stdin:
                os._exit(0)
            if key.fileobj is not listener:  # a child has ended
                connection, process = key.data
                status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
                waiting.unregister(key.fileobj)
                os.close(key.fd)
                with contextlib.suppress(OSError), connection:
                    connection.sendall(status.to_bytes(8, "big", signed=True))
                continue
            connection, _ = listener.accept()
            size, streams, _, _ = socket.recv_fds(connection, 8, 3)
            with connection.makefile("rb") as incoming:
                asked: dict[str, object] = json.loads(incoming.read(int.from_bytes(size, "big")))
            process = os.fork()
            if process == 0:
                for target, stream in enumerate(streams):
                    os.dup2(stream, target)
                for each in (listener, connection, waiting):
                    each.close()
                for stream in streams:
                    os.close(stream)
                return asked
            for stream in streams:
                os.close(stream)
            connection.sendall(process.to_bytes(8, "big"))
            waiting.register(os.pidfd_open(process), selectors.EVENT_READ, (connection, process))


def _become(asked: dict[str, object]) -> None:
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["cwd"])
    if "module" in asked:
        sys.path[0] = asked["cwd"]
        sys.argv = [asked["module"], *asked["arguments"]]
        runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)
    else:
        sys.path[0], sys.argv = "", ["-c"]
        exec(compile(asked["code"], "<string>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})


if __name__ == "__main__":
    request = serve(sys.argv[1])
    code = 0
    try:
        _become(request)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if code == 1 and isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    # The end of an interpreter without its last part, which would free, and so copy, all that was imported.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
