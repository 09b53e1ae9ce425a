"""Jobs composed from templates are Hydra's, byte for byte."""

from pathlib import Path

import pytest
from hydra._internal.callbacks import Callbacks
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import run_job
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from rankward.config import CONFIG_FOLDER, register
from rankward.sweeps.compose import Composer
from rankward.training.job import record_config

JOBS = [
    [],
    ["seed=3"],
    ["seed=3", "lr.eta=1e-05", "init.scale=0.1"],
    ["depth='2'", "init=balanced", "init.determinant=positive", "seed=0"],
    ["depth='4'", "seed=1", "init=balanced", "init.scale=1e-6"],
    ["observations=random_matrix", "observations.dims=[3,4]", "observations.count=7"],
    ["experiment=figure2", "observations=tensor_order4", "observations.count=100", "init.scale=1e-3"],
    ["record.every=100", "record.loss_ratio=0.0", "max_iterations=null", "ckpt_path=null"],
    ["ckpt_path='a b: #c, \\'quoted\\' {x}'"],
    ["ckpt_path='/tmp/äöü/→'"],
    ["ckpt_path='" + 30 * "long words with spaces " + "'"],
    ["logger.wandb.tags=[one,'two words',3]", "logger.wandb.group=g"],
    ["factorization.hidden=[2,2]"],
    ["metrics.columns.schatten.p=[0.5,2]", "metrics.columns.singular_values.largest=3"],
    ["seed=${depth.layers}"],
    ["trainer.threads=1", "dtype=float32", "stop_loss=1e-12"],
    ["+metrics.columns.mine={_target_: a.B, x: 1}"],
    ["~metrics.columns.schatten", "seed=2"],
    ["hydra.job.name=other", "seed=5"],
    ["++seed=9"],
    ["logger=[wandb,csv]", "seed=1"],
]


@pytest.fixture(scope="module")
def hydra(tmp_path_factory):
    register()
    GlobalHydra.instance().clear()
    made = Hydra.create_main_hydra2("rankward", create_config_search_path(str(CONFIG_FOLDER)))
    folder = tmp_path_factory.mktemp("sweep with spaces")
    yield made, folder
    GlobalHydra.instance().clear()


@pytest.fixture(scope="module")
def composer(hydra):
    made, folder = hydra
    master = made.compose_config("config", ["logger=none", f"hydra.sweep.dir='{folder}'"], RunMode.MULTIRUN)
    return Composer(made.config_loader, master), master


@pytest.mark.parametrize("job", JOBS, ids=[" ".join(job)[:60] for job in JOBS])
def test_configs_and_files_are_hydras(hydra, composer, job):
    made, folder = hydra
    ours, master = composer
    number = JOBS.index(job) + 10
    composed = ours.compose(job)
    theirs = made.config_loader.load_sweep_config(master, job)
    with open_dict(theirs):
        theirs.hydra.job.id = theirs.hydra.job.num = number
    seen = []
    context = HydraContext(config_loader=made.config_loader, callbacks=Callbacks(master))
    run_job(seen.append, theirs, "hydra.sweep.dir", "hydra.sweep.subdir", context)
    assert composed.config == seen[0] and OmegaConf.to_yaml(composed.config) == OmegaConf.to_yaml(seen[0])
    if composed.base is None:  # left to Hydra
        assert any(override.startswith(("+", "~", "hydra.")) for override in job)
        return
    record_config(seen[0], Path(folder) / str(number))  # as a job of Hydra's launcher does: it leaves out unset keys
    files = composed.job().hydra_files(number, folder / str(number))
    for name, text in files.items():
        assert text == (Path(folder) / str(number) / ".hydra" / name).read_text(encoding="utf-8"), name


@pytest.mark.parametrize("job", [["lr.etta=1"], ["seed=x"], ["depth='9'"], ["init.scale=[1]"]])
def test_refusals_of_hydra_are_refusals(composer, job):
    ours, master = composer
    with pytest.raises((HydraException, OmegaConfBaseException)) as theirs:
        ours.loader.load_sweep_config(master, job)
    with pytest.raises(type(theirs.value)) as mine:
        ours.compose(job)
    assert str(mine.value) == str(theirs.value)


@pytest.mark.parametrize("value", ["0", "17", "-3", "-0", "007", "1_0", "1.0", "1e3", "'5'", "9" * 30])
def test_integers_are_parsed_as_hydra_parses_them(composer, value):
    ours, _ = composer
    ours.parse("seed=1")
    mine, (theirs,) = ours.parse(f"seed={value}"), ours.parser.parse_overrides([f"seed={value}"])
    assert mine == theirs and type(mine.value()) is type(theirs.value())
    assert mine.get_value_element_as_str() == theirs.get_value_element_as_str()


def test_one_job_does_not_change_another(composer):
    ours, _ = composer
    before = OmegaConf.to_yaml(ours.compose(["seed=1"]).config)
    ours.compose(["seed=2", "observations.b_12=5"])
    assert OmegaConf.to_yaml(ours.compose(["seed=1"]).config) == before
