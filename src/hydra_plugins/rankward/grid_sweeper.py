"""hydra/sweeper=grid: found by Hydra at every start, so the work is imported late."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper


class GridSweeper(Sweeper):
    """Unions of grids and paired values; see `rankward.sweeps.grid`."""

    def __init__(self, params: Optional[Dict[str, Any]], grids: List[Any], max_batch_size: Optional[int]) -> None:
        from rankward.sweeps.grid import GridSearch

        self.search = GridSearch(params or {}, grids, max_batch_size)

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Take what Hydra hands to a sweeper."""
        self.search.setup(hydra_context, task_function, config)

    def sweep(self, arguments: List[str]) -> Any:
        """Launch every job of the grids."""
        return self.search.sweep(arguments)


@dataclass
class GridSweeperConf:
    """Keys of hydra.sweeper."""

    _target_: str = "hydra_plugins.rankward.grid_sweeper.GridSweeper"
    params: Optional[Dict[str, Any]] = None
    grids: List[Any] = field(default_factory=list)
    max_batch_size: Optional[int] = None


ConfigStore.instance().store(group="hydra/sweeper", name="grid", node=GridSweeperConf, provider="rankward")
