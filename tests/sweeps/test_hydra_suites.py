"""Hydra's own conformance suites for launcher plugins."""

import pytest
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.test_utils.launcher_common_tests import IntegrationTestSuite, LauncherTestSuite
from hydra.version import Version, VersionBase

from hydra_plugins.rankward.batched_launcher import BatchedLauncher
from hydra_plugins.rankward.grid_sweeper import GridSweeper


@pytest.fixture(autouse=True)
def as_the_suites_expect():
    """Hydra's behaviour of 1.1, for which they are written; our command line asks for that of 1.3 when it is imported."""
    base = VersionBase.instance().getbase()
    VersionBase.instance().setbase(Version("1.1"))
    yield
    VersionBase.instance().version_base = base


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
