"""hydra/sweeper=grid and =refine: found by Hydra at every start, so the work is imported late."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper


class GridSweeper(Sweeper):
    """Unions of grids and paired values, each cell refined where asked; see `rankward.sweeps.grid` and `.refine`."""

    def __init__(
        self,
        params: Optional[Dict[str, Any]],
        grids: List[Any],
        max_batch_size: Optional[int],
        refine: Optional[Dict[str, Any]],
        zip: List[str],
    ) -> None:
        from rankward.sweeps.grid import GridSearch
        from rankward.sweeps.refine import Refinement

        grid = GridSearch(params or {}, grids, max_batch_size, zip)
        self.search = grid if refine is None else Refinement(grid, **refine)

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Take what Hydra hands to a sweeper."""
        self.search.setup(hydra_context, task_function, config)

    def sweep(self, arguments: List[str]) -> Any:
        """Launch every job of the grids."""
        return self.search.sweep(arguments)


@dataclass
class Refine:
    """Keys of hydra.sweeper.refine."""

    factors: Dict[str, float] = field(default_factory=lambda: {"lr.eta": 0.5, "init.scale": 0.1})
    watch: str = "entry/0_0"
    tolerance: float = 0.02
    max_rounds: int = 8


@dataclass
class GridSweeperConf:
    """Keys of hydra.sweeper."""

    _target_: str = "hydra_plugins.rankward.grid_sweeper.GridSweeper"
    params: Optional[Dict[str, Any]] = None
    grids: List[Any] = field(default_factory=list)
    max_batch_size: Optional[int] = None
    refine: Optional[Refine] = None
    zip: List[str] = field(default_factory=list)


@dataclass
class RefineSweeperConf(GridSweeperConf):
    """The same with rounds of refinement."""

    refine: Optional[Refine] = field(default_factory=Refine)


ConfigStore.instance().store(group="hydra/sweeper", name="grid", node=GridSweeperConf, provider="rankward")
ConfigStore.instance().store(group="hydra/sweeper", name="refine", node=RefineSweeperConf, provider="rankward")
