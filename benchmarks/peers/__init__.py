"""Two peers of Rankward's engine. `python -m benchmarks.peers` checks that they agree and prints their times."""

from benchmarks.peers.descents import CHECK_EVERY, FORMS, autograd_loop, jax_descent, jax_train, problem
from benchmarks.peers.timing import check, nanoseconds, time_peer

__all__ = [
    "CHECK_EVERY",
    "FORMS",
    "autograd_loop",
    "check",
    "jax_descent",
    "jax_train",
    "nanoseconds",
    "problem",
    "time_peer",
]
