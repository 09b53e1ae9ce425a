"""Measure the time of complete command lines."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass

MEASURE = (
    "import resource, subprocess, sys; code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode; "
    "used = resource.getrusage(resource.RUSAGE_CHILDREN); print(used.ru_utime + used.ru_stime, used.ru_maxrss); "
    "sys.exit(code)"
)


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock, seconds of processor time, and GiB of memory at the peak."""

    seconds: float
    processor: float
    peak: float

    def __str__(self) -> str:
        return f"{self.seconds:.0f} s ({self.processor:.0f} s of processor time), peak {self.peak:.2f} GiB"


def cost(folder: str, *arguments: str) -> Cost:
    """Measure what `rankward` with these arguments costs in a folder.

    Raises:
        RuntimeError: it failed.
    """
    start = time.perf_counter()
    command = [sys.executable, "-c", MEASURE, sys.executable, "-m", "rankward", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    processor, kilobytes = done.stdout.split()[-2:]
    return Cost(seconds, float(processor), int(kilobytes) / 2**20)


def timed(folder: str, *arguments: str) -> tuple[float, float]:
    """Seconds, and GiB at the peak; as `cost`."""
    measured = cost(folder, *arguments)
    return measured.seconds, measured.peak
