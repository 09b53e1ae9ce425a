"""Whole commands, timed."""

from __future__ import annotations

import subprocess
import sys
import time

MEASURE = (
    "import resource, subprocess, sys; code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode; "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
)


def timed(folder: str, *arguments: str) -> tuple[float, float]:
    """Seconds, and GiB at the peak, of `rankward` with these arguments in a folder.

    Raises:
        RuntimeError: it failed.
    """
    start = time.perf_counter()
    command = [sys.executable, "-c", MEASURE, sys.executable, "-m", "rankward", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return seconds, int(done.stdout.split()[-1]) / 2**20
