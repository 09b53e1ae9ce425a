"""hydra/launcher=batched: found by Hydra at every start, so the work is imported late."""

from dataclasses import dataclass
from typing import Any, Optional, Sequence

from hydra.core.config_store import ConfigStore
from hydra.plugins.launcher import Launcher


class BatchedLauncher(Launcher):
    """A multirun's jobs as a few ensembles; see `rankward.sweeps.launcher`."""

    def __init__(self, memory: Optional[float], dry_run: bool = False) -> None:
        from rankward.sweeps.execution.local import LocalExecutor
        from rankward.sweeps.launcher import EnsembleLauncher

        self.batches = EnsembleLauncher(LocalExecutor(memory))

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Take what Hydra hands to a launcher."""
        self.batches.setup(hydra_context, task_function, config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Any:
        """Run every job, and return what became of each, in order."""
        return self.batches.launch(job_overrides, initial_job_idx)


@dataclass
class BatchedLauncherConf:
    """Keys of hydra.launcher."""

    _target_: str = "hydra_plugins.rankward.batched_launcher.BatchedLauncher"
    memory: Optional[float] = None
    dry_run: bool = False


ConfigStore.instance().store(group="hydra/launcher", name="batched", node=BatchedLauncherConf, provider="rankward")
