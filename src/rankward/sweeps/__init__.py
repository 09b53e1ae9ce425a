"""Sweeps: many runs from one command."""

from typing import Any


def is_ours(task_function: Any) -> bool:
    """Whether jobs run Rankward's command line; its sweepers and launchers also work with other Hydra programs."""
    return getattr(task_function, "__module__", "") == "rankward.cli"
