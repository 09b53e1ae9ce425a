"""Many runs from one command."""

from typing import Any


def is_ours(task_function: Any) -> bool:
    """Whether a sweep's jobs run our command line: our sweepers and launchers serve other programs' as well."""
    return getattr(task_function, "__module__", "") == "rankward.cli"
