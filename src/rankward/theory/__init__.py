"""What the theorems force, as pure functions."""

from rankward.theory.bounds import robustness_bound

__all__ = ["robustness_bound"]
