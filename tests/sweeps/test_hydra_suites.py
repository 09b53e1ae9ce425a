"""Hydra's own conformance suites for launcher plugins."""

import pytest
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.test_utils.launcher_common_tests import IntegrationTestSuite, LauncherTestSuite

from hydra_plugins.rankward.batched_launcher import BatchedLauncher
from hydra_plugins.rankward.grid_sweeper import GridSweeper


def test_hydra_finds_them():
    assert BatchedLauncher.__name__ in {plugin.__name__ for plugin in Plugins.instance().discover(Launcher)}
    assert GridSweeper.__name__ in {plugin.__name__ for plugin in Plugins.instance().discover(Sweeper)}


@pytest.mark.slow
@pytest.mark.parametrize("launcher_name, overrides", [("batched", [])])
class TestBatchedLauncher(LauncherTestSuite):
    pass


@pytest.mark.slow
@pytest.mark.parametrize(
    "task_launcher_cfg, extra_flags",
    [({}, ["-m", "hydra/launcher=batched"]), ({}, ["-m", "hydra/launcher=batched", "hydra/sweeper=grid"])],
)
class TestBatchedIntegration(IntegrationTestSuite):
    pass
