"""The real command line, W&B's own reader, and a disk that fills up: what tests in several folders start."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest


def rankward(*arguments, cwd, timeout=240):
    """The command line in a process of its own."""
    command = [sys.executable, "-m", "rankward", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout)


def wandb_records(folder: Path) -> list[dict]:
    """Records of an offline W&B run, as W&B's own reader prints them."""
    (file,) = folder.glob("*.wandb")
    command = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(file)]
    lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    return [json.loads(line) for line in lines]


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
