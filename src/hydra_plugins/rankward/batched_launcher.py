"""Plugin of `hydra/launcher=batched`. Hydra imports it at every start, so the launcher is imported in the class."""

from dataclasses import dataclass
from typing import Any, Optional, Sequence

from hydra.core.config_store import ConfigStore
from hydra.plugins.launcher import Launcher


class BatchedLauncher(Launcher):
    """Trains the jobs of a sweep as ensembles; see `rankward.sweeps.launcher`."""

    def __init__(self, memory: Optional[float], dry_run: bool = False) -> None:
        from rankward.sweeps.execution.local import LocalExecutor
        from rankward.sweeps.launcher import EnsembleLauncher

        self.core = EnsembleLauncher(LocalExecutor(memory))

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Receive Hydra's context, the function that runs a job, and the sweep's config."""
        self.core.setup(hydra_context, task_function, config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Any:
        """Train the jobs; the outcome of each in order."""
        returns, _ = self.core.launch(job_overrides, initial_job_idx)
        return returns


@dataclass
class BatchedLauncherConf:
    """Keys of hydra.launcher."""

    _target_: str = "hydra_plugins.rankward.batched_launcher.BatchedLauncher"
    memory: Optional[float] = None
    dry_run: bool = False


ConfigStore.instance().store(group="hydra/launcher", name="batched", node=BatchedLauncherConf, provider="rankward")
