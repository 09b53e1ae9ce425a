"""Which devices a run is trained on, whether they are there, and how many runs they hold."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from rankward.config import ConfigError, RunConfig
from rankward.dynamics import Engine

SHARE = 0.5  # of a card's free memory; the rest is for rows, copies, and a graph's own


def accelerator(run: RunConfig, engine: Engine) -> str:
    """`auto` means the processor for its compiled engine, and for the others a CUDA device where there is one."""
    if run.trainer.accelerator != "auto":
        return run.trainer.accelerator
    return "gpu" if engine.name != "fused" and torch.cuda.is_available() else "cpu"


def check_devices(run: RunConfig) -> None:
    """Refuse a GPU that is not there, or not to be used.

    Raises:
        ConfigError: why.
    """
    if run.trainer.accelerator != "gpu":
        return
    if not torch.cuda.is_available():
        raise ConfigError("trainer", "gpu", f"cpu or auto: {_why_not()}")
    wanted, there = run.trainer.devices, torch.cuda.device_count()
    if wanted > there:
        raise ConfigError("trainer.devices", wanted, f"at most {there}, the CUDA devices that are to be seen here")


def _why_not() -> str:
    """What keeps this process from a CUDA device, in a few words."""
    if torch.backends.mps.is_available():
        return "Apple's MPS has no float64, and no CUDA device is to be seen here"
    try:
        torch.cuda.init()
    except AssertionError:
        return "this PyTorch is a build without CUDA"
    except RuntimeError as error:  # no driver, or one that is too old: PyTorch says which
        return str(error).split(". ")[0].splitlines()[0]
    return "no CUDA device is to be seen here"


def cards(run: RunConfig) -> list[torch.device]:
    """The CUDA devices that share the runs."""
    return [torch.device("cuda", index) for index in range(run.trainer.devices)]


def free_memory(run: RunConfig) -> float:
    """Bytes that an ensemble like this run may take on its devices; infinity where it needs none of theirs."""
    if run.trainer.accelerator != "gpu" or not torch.cuda.is_available():
        return float("inf")
    return SHARE * sum(torch.cuda.mem_get_info(card)[0] for card in cards(run))


@contextlib.contextmanager
def precision(run: RunConfig) -> Iterator[None]:
    """TF32 in float32 matrix products while this lasts, or not, as the run says."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = run.trainer.tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
