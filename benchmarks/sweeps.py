"""Measure the overhead of a run in sweeps, batched and one by one, and their memory.

python -m benchmarks.sweeps            about four minutes
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import rankward
from benchmarks.commands import timed

JOBS = ["logger=none", "max_iterations=20_000", "stop_loss=0"]


def sweep(folder: str, runs: int, *more: str) -> tuple[float, float]:
    """Seconds, and GiB at the peak, of a sweep of so many depth-3 runs of 20,000 iterations."""
    return timed(folder, "-m", *JOBS, f"seed=range(0,{runs})", *more)


def launchers() -> None:
    print("depth-3 runs of 20,000 iterations, every file written, no logger: seconds, and ms a run beyond the first")
    print(f"{'runs':>6} {'batched':>9} {'ms a run':>9} {'peak GiB':>9} {'basic':>9} {'ms a run':>9} {'speedup':>8}")
    with tempfile.TemporaryDirectory() as folder:
        one, _ = sweep(folder, 1)
        for runs in (10, 100, 1000):
            batched, peak = sweep(folder, runs)
            row = f"{runs:6} {batched:9.1f} {(batched - one) / runs * 1e3:9.1f} {peak:9.2f}"
            if runs <= 100:
                basic, _ = sweep(folder, runs, "hydra/launcher=basic")
                row += f" {basic:9.1f} {(basic - one) / runs * 1e3:9.1f} {basic / batched:8.1f}"
            print(row, flush=True)
        start = time.perf_counter()
        (latest,) = [path for path in Path(folder, "multirun_outputs").iterdir() if (path / "999").is_dir()]
        frame = rankward.load(latest)
        frame.runs, frame.traces().select("run", "loss", "norm/nuclear").collect()
        print(f"rankward.load of 1,000 runs, with two columns of every trace: {time.perf_counter() - start:.2f} s")


def wandb() -> None:
    with tempfile.TemporaryDirectory() as folder:
        few, _ = sweep(folder, 10, "logger=wandb")
        many, _ = sweep(folder, 210, "logger=wandb")
        none, _ = sweep(folder, 210)
        start, _ = sweep(folder, 10)
        print(f"W&B, offline: {((many - few) - (none - start)) / 200 * 1e3:.0f} ms a run more than without a logger")


def checkpoints() -> None:
    with tempfile.TemporaryDirectory() as folder:
        long = ["max_iterations=20_000_000", "checkpoint.seconds="]
        often = min(sweep(folder, 64, long[0], long[1] + "5")[0] for _ in range(2))
        never = min(sweep(folder, 64, long[0], long[1] + "null")[0] for _ in range(2))
        print(f"64 runs of 20,000,000 iterations: {often:.1f} s with a checkpoint every 5 s, {never:.1f} s without")


def phase_diagram() -> None:
    """4,800 and twice as many runs: the cost a run, and the peak of memory."""
    with tempfile.TemporaryDirectory() as folder:
        for grid in (40, 57):
            keys = [f"lr.eta=geomspace(1e-3,1,{grid})", f"init.scale=geomspace(1e-8,1,{grid})"]
            seconds, peak = timed(folder, "-m", "experiment=phase_diagram", *keys)
            runs = 3 * grid * grid
            each = f"{seconds / runs * 1e3:.1f} ms a run"
            print(f"phase diagram of {runs} runs: {seconds:.0f} s, {each}, peak {peak:.2f} GiB", flush=True)


if __name__ == "__main__":
    launchers()
    wandb()
    checkpoints()
    phase_diagram()
