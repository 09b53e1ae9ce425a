"""Plugins of `hydra/sweeper=grid` and `=refine`, imported at every start: see `batched_launcher`."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper


class GridSweeper(Sweeper):
    """Launches unions of grids and paired values, with or without refinement; see `rankward.sweeps.grid`, `.refine`."""

    def __init__(
        self,
        params: Optional[Dict[str, Any]],
        grids: List[Any],
        max_batch_size: Optional[int],
        refine: Optional[Dict[str, Any]],
        zip: List[str],
        select: List[str],
    ) -> None:
        from rankward.sweeps.grid import GridSearch
        from rankward.sweeps.refine import Refinement

        grid = GridSearch(params or {}, grids, max_batch_size, zip, select)
        self.search = grid if refine is None else Refinement(grid, **refine)

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Receive Hydra's context, the function that runs a job, and the sweep's config."""
        self.search.setup(hydra_context, task_function, config)

    def sweep(self, arguments: List[str]) -> Any:
        """Launch all jobs; their outcomes, launch by launch."""
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
    select: List[str] = field(default_factory=list)


@dataclass
class RefineSweeperConf(GridSweeperConf):
    """The same keys, with rounds of refinement."""

    refine: Optional[Refine] = field(default_factory=Refine)


ConfigStore.instance().store(group="hydra/sweeper", name="grid", node=GridSweeperConf, provider="rankward")
ConfigStore.instance().store(group="hydra/sweeper", name="refine", node=RefineSweeperConf, provider="rankward")
