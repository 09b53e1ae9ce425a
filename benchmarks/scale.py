"""Measure time and memory of the atlas, of 20,000 folders, of resuming them, and of large matrices.

python -m benchmarks.scale             about twenty minutes on two cores
python -m benchmarks.scale --quick     a thirtieth of the runs
"""

from __future__ import annotations

import sys
import tempfile

from benchmarks.commands import cost

QUICK = "--quick" in sys.argv
FOLDERS = 1_000 if QUICK else 20_000
SHORT = ["depth=2", "lr.eta=0.05", "init=balanced", "init.scale=1e-2", "logger=none"]


def atlas() -> None:
    """Memory that does not grow with the runs, and a million of them."""
    for seeds in (1,) if QUICK else (1, 3, 9, 30):
        with tempfile.TemporaryDirectory() as folder:
            print(
                f"atlas of {33_600 * seeds:,} runs: {cost(folder, '-m', 'experiment=atlas', f'seed=range(0,{seeds})')}"
            )


def folders() -> None:
    """Runs that take no time themselves, in a folder each."""
    with tempfile.TemporaryDirectory() as folder:
        sweep = ["-m", *SHORT, "results=folders", "hydra.sweep.dir=sweep"]
        one = cost(folder, *sweep[:-1], "hydra.sweep.dir=one", "seed=0")
        many = cost(folder, *sweep, f"seed=range(0,{FOLDERS})")
        each = [
            (spent - before) / FOLDERS * 1e3
            for spent, before in ((many.seconds, one.seconds), (many.processor, one.processor))
        ]
        print(f"{FOLDERS:,} folders: {many}; {each[0]:.1f} ms a run, {each[1]:.1f} of processor time")
        print(f"resume where all of them are complete: {cost(folder, 'resume', 'sweep')}")


def large() -> None:
    """Measure a dry run of large matrices."""
    problem = ["observations=random_matrix", "observations.dims=[1000,1000]", "observations.count=10000"]
    with tempfile.TemporaryDirectory() as folder:
        told = cost(folder, "-m", *problem, "logger=none", "seed=range(0,20)", "--dry-run")
        print(f"--dry-run of 20 runs of 1,000 x 1,000: {told}")
        wide = cost(folder, *problem[:1], "logger=none", "depth=2", "factorization.hidden=2000", "max_iterations=2000")
        print(f"one run of 10 x 10 with 2,000 hidden units, 2,000 iterations: {wide}")


if __name__ == "__main__":
    large()
    folders()
    atlas()
