"""Devices of a run: which ones it uses, whether they are available, and how much memory is free."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from rankward.config import ConfigError, RunConfig
from rankward.dynamics import Engine

MEMORY_FRACTION = 0.5  # of a device's free memory; the rest is for rows, copies, and CUDA graphs


def accelerator(run: RunConfig, engine: Engine) -> str:
    """Lightning's accelerator: `auto` is the CPU for the fused engine, and a CUDA device, if any, for the others."""
    if run.trainer.accelerator != "auto":
        return run.trainer.accelerator
    return "gpu" if engine.name != "fused" and torch.cuda.is_available() else "cpu"


def check_devices(run: RunConfig) -> None:
    """Refuse a GPU that does not exist or cannot be used.

    Raises:
        ConfigError: with the reason.
    """
    if run.trainer.accelerator != "gpu":
        return
    if not torch.cuda.is_available():
        raise ConfigError("trainer", "gpu", f"cpu or auto: {_why_not()}")
    devices, available = run.trainer.devices, torch.cuda.device_count()
    if devices > available:
        raise ConfigError("trainer.devices", devices, f"at most {available}, the number of visible CUDA devices")


def _why_not() -> str:
    """Why this process cannot use a CUDA device."""
    if torch.backends.mps.is_available():
        return "Apple's MPS has no float64, and no CUDA device is visible"
    try:
        torch.cuda.init()
    except AssertionError:
        return "this PyTorch is a build without CUDA"
    except RuntimeError as error:  # no driver, or an old one: PyTorch's message says which
        return str(error).split(". ")[0].splitlines()[0]
    return "no CUDA device is visible"


def cuda_devices(run: RunConfig) -> list[torch.device]:
    """The CUDA devices over which the runs are distributed."""
    return [torch.device("cuda", index) for index in range(run.trainer.devices)]


def free_memory(run: RunConfig) -> float:
    """Device memory in bytes that an ensemble of such runs may take; infinite if it uses no GPU."""
    if run.trainer.accelerator != "gpu" or not torch.cuda.is_available():
        return float("inf")
    return MEMORY_FRACTION * sum(torch.cuda.mem_get_info(device)[0] for device in cuda_devices(run))


@contextlib.contextmanager
def precision(run: RunConfig) -> Iterator[None]:
    """Switch TF32 in float32 matrix products on or off within the context, as the config says."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = run.trainer.tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
