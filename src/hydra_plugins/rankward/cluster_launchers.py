"""Plugins of `hydra/launcher=slurm` and `=submitit_local`, imported at every start: see `batched_launcher`."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence

from hydra.core.config_store import ConfigStore
from hydra.plugins.launcher import Launcher


class ClusterLauncher(Launcher):
    """Trains the jobs of a sweep in tasks of a cluster; see `rankward.sweeps.execution.cluster`."""

    def __init__(
        self, cluster: str, runs_per_task: Optional[int], tasks: Optional[int], wait: bool, poll: float, dry_run: bool,
        **parameters: Any,
    ) -> None:  # fmt: skip
        from rankward.sweeps.execution.cluster import ClusterExecutor
        from rankward.sweeps.launcher import EnsembleLauncher

        self.core = EnsembleLauncher(ClusterExecutor(cluster, runs_per_task, tasks, wait, poll, parameters))

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Receive Hydra's context, the function that runs a job, and the sweep's config."""
        self.core.setup(hydra_context, task_function, config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Any:
        """Submit the jobs; the outcome of each in order."""
        returns, _ = self.core.launch(job_overrides, initial_job_idx)
        return returns


@dataclass
class SubmititLocalConf:
    """Keys of hydra.launcher, with submitit's names for its parameters."""

    _target_: str = "hydra_plugins.rankward.cluster_launchers.ClusterLauncher"
    cluster: str = "local"
    runs_per_task: Optional[int] = None
    tasks: Optional[int] = None
    wait: bool = True
    poll: float = 5.0
    dry_run: bool = False
    timeout_min: int = 60
    signal_delay_s: int = 120
    max_num_timeout: int = 3
    setup: Optional[List[str]] = None


@dataclass
class SlurmConf(SubmititLocalConf):
    """The same keys, and options of sbatch."""

    cluster: str = "slurm"
    name: str = "rankward"
    partition: Optional[str] = None
    account: Optional[str] = None
    qos: Optional[str] = None
    cpus_per_task: Optional[int] = None
    gpus_per_node: Optional[int] = None
    gres: Optional[str] = None
    mem_gb: Optional[float] = None
    constraint: Optional[str] = None
    exclude: Optional[str] = None
    array_parallelism: int = 256
    additional_parameters: Optional[Dict[str, Any]] = field(default_factory=dict)


ConfigStore.instance().store(group="hydra/launcher", name="submitit_local", node=SubmititLocalConf, provider="rankward")
ConfigStore.instance().store(group="hydra/launcher", name="slurm", node=SlurmConf, provider="rankward")
