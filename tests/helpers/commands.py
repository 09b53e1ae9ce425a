"""The real command line, W&B's own reader, and a disk that fills up: what tests in several folders start."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import forked
from rankward import results

TENSOR = ["factorization=tensor", "observations=tensor_order3", "observations.dims=[4,3,4]", "metrics=tensor"]
TENSOR += ["lr=adaptive", "init.scale=1e-2", "logger=none"]


def rankward(*arguments, cwd, timeout=240, env=None):
    """The command line in a process of its own: a fork that has done the imports, or a new one for another `env`."""
    if env is None:
        return forked.rankward(*arguments, cwd=cwd, timeout=timeout)
    command = [sys.executable, "-m", "rankward", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, env=env)


def wandb_records(folder: Path) -> list[dict]:
    """Records of an offline W&B run, as W&B's own reader prints them."""
    found = list(folder.glob("*.wandb"))
    assert len(found) == 1, sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    (file,) = found
    command = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(file)]
    lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    return [json.loads(line) for line in lines]


def wandb_summary(sweep: Path) -> tuple[Path, dict, list[dict]]:
    """The one summary run of an offline sweep: its folder, what W&B knows of it, and all of its records."""
    found = []
    for folder in (sweep / "wandb").glob("offline-run-*"):
        read = wandb_records(folder)
        run = next(record["run"] for record in read if record["type"] == "run")
        if run.get("job_type") == "summary":
            found.append((folder, run, read))
    (only,) = found
    return only


@contextlib.contextmanager
def small_disk(folder: Path, size: str):
    """A file system of that size at `folder`; the test is skipped where none can be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def computed(sweep):
    """Bytes of the traces and factors that a sweep leaves, by file."""
    return {
        key: content for key, content in leavings(sweep).items() if key[1] in ("trace.parquet", "factors.safetensors")
    }


def leavings(sweep, *runs):
    """All bytes that a sweep (or some of its runs) leaves, by file; summaries without what depends on time."""
    found = {}
    for folder in [sweep / run for run in runs] or results.run_folders(sweep):
        for name in ("trace.parquet", "factors.safetensors", ".hydra/config.yaml", ".hydra/overrides.yaml"):
            found[folder.name, name] = (folder / name).read_bytes()
        summary = json.loads((folder / "summary.json").read_text())
        del summary["seconds"]
        found[folder.name, "summary.json"] = json.dumps(summary)
    return found
