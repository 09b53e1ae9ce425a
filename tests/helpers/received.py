"""A sweep's folder as somebody might send it: whole, and made by hand so that a test can put anything into it."""

from pathlib import Path

import numpy as np
import yaml

from rankward import results
from rankward.config import config_hash

CONFIG = {"depth": {"name": "2", "layers": 2}, "init": {"name": "balanced", "scale": 0.1}, "seed": 0, "logger": {}}


def received(folder: Path, runs: int = 2, stored=(), config=None, **top) -> Path:
    """The folder of a sweep whose runs are complete.

    Args:
        stored: the sweep's overrides.
        config: of its runs, over the default.
        top: more keys of `multirun.yaml`.
    """
    loss = np.geomspace(1, 1e-4, 5)
    for job in range(runs):
        run = folder / str(job)
        trace = {"iteration": np.arange(5), "loss": loss, "norm/nuclear": 1 / loss, "rank/effective": 1 + loss}
        (run / ".hydra").mkdir(parents=True)
        own = yaml.safe_dump(CONFIG | (config or {}) | {"seed": job})
        (run / ".hydra" / "config.yaml").write_text(own)
        digest = config_hash(results.read_config(run))
        summary = {"status": "converged", "iterations": 4, "config_hash": digest, "metrics": {"loss": 1e-4}}
        results.write_run(run, trace=trace, factors={"a": np.zeros(1)}, summary=summary)
        (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([*stored, f"seed={job}"]))
    hydra = {"overrides": {"task": [*stored, "seed=0,1"], "hydra": []}, "runtime": {"config_sources": []}}
    (folder / "multirun.yaml").write_text(yaml.safe_dump({"hydra": hydra, **CONFIG, "figures": [], **top}))
    (folder / ".jobs").write_text(f"{runs}\nseed\n")
    return folder
