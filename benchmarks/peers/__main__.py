"""Check that the peers agree, and print the time of each."""

import sys

from benchmarks.peers import check, time_peer

print(f"autograd loop, one run: {time_peer('autograd', 1) / 1e3:.0f} us an iteration")
try:
    print(f"JAX differs from it by at most {(worst := check()):.1e} after 1000 iterations (1e-9 allowed)")
    print("JAX, ns a run-iteration, depth 3, 2x2, float64\n  runs  1 core  2 cores", flush=True)
    for runs in (1, 8, 64, 1000, 10_000):
        print(f"{runs:6} {time_peer('jax', runs):7.1f} {time_peer('jax', runs, cores=2):8.1f}", flush=True)
except ImportError as missing:
    sys.exit(str(missing))
sys.exit(worst > 1e-9)
