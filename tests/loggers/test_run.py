"""Loggers are tried before training, and take no results with them when they fail."""

import sys

import polars as pl
import pytest
import wandb
from pytorch_lightning.loggers import CSVLogger

from helpers.in_process import command_line
from helpers.runs import QUICK, composed, trained
from rankward import results
from rankward.config import ConfigError
from rankward.loggers import run as run_loggers
from rankward.loggers import wandb as wandb_loggers
from rankward.loggers.run import check_loggers
from rankward.loggers.target import LoggerError, LogTarget
from rankward.sweeps.execution.ensembles import Job, Session, train_batch
from rankward.training.preflight import check_all

OWN = ["+logger.mine={_target_: mine_logger.Mine}"]
MINE = """
from pytorch_lightning.loggers import Logger
class Mine(Logger):
    name = version = "mine"
    made = 0
    def __init__(self, save_dir=None): type(self).made += 1
    def log_hyperparams(self, params): pass
    def log_metrics(self, metrics, step=None): pass
    def save(self): pass
    def finalize(self, status): pass
"""


@pytest.fixture(autouse=True)
def unchecked(monkeypatch):
    monkeypatch.setattr(run_loggers, "_checked", set())
    wandb_loggers.login_error.cache_clear()
    yield
    wandb_loggers.login_error.cache_clear()


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of a user's with a logger, whose text may be changed."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(**methods):
        text = MINE
        for name, body in methods.items():
            head = next(line for line in MINE.splitlines() if f"def {name}(" in line)
            text = text.replace(head, f"{head.partition('):')[0]}): {body}")
        (tmp_path / "mine_logger.py").write_text(text, encoding="utf-8")
        sys.modules.pop("mine_logger", None)

    write()
    yield write
    sys.modules.pop("mine_logger", None)


def test_wandb_online_is_tried_once_for_a_sweep_and_opens_no_run(monkeypatch):
    asked = []

    def login(**options):
        asked.append(options)
        raise wandb.errors.UsageError("No API key configured.\nmore")

    monkeypatch.setattr(wandb, "login", login)
    monkeypatch.setattr(wandb, "init", lambda **_: pytest.fail("a run of W&B's was opened"))
    runs = [composed("logger=wandb", *QUICK, f"seed={seed}", "logger.wandb.offline=false")[0] for seed in range(3)]
    expected = r"logger\.wandb\.offline: False is not allowed; .* server takes \(UsageError: No API key configured\.\)$"
    for wrong in check_all(runs).values():
        with pytest.raises(ConfigError, match=expected):
            raise wrong
    assert len(asked) == 1
    monkeypatch.setattr(wandb, "login", lambda **options: asked.append(options))
    asked.clear()
    wandb_loggers.login_error.cache_clear()
    assert check_all(runs) == {} and len(asked) == 1
    assert check_all([composed("logger=wandb", *QUICK)[0]]) == {} and len(asked) == 1  # offline


def test_the_environments_mode_says_whether_a_login_is_needed(monkeypatch):
    def login(**_):
        raise wandb.errors.UsageError("No API key configured.")

    monkeypatch.setattr(wandb, "login", login)
    run = composed("logger=wandb", *QUICK)[0]
    monkeypatch.setenv("WANDB_MODE", "online")
    expected = r"^WANDB_MODE: 'online' is not allowed; expected offline, or a login .* No API key configured\.\)$"
    with pytest.raises(ConfigError, match=expected):
        check_loggers(run)
    for mode in ("dryrun", "offline", "disabled"):
        monkeypatch.setenv("WANDB_MODE", mode)
        check_loggers(run)
    monkeypatch.setitem(sys.modules, "wandb", None)
    check_loggers(run)  # it is disabled: W&B is not needed


def test_missing_package_and_non_logger_are_refused_before_training(monkeypatch, own):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(LoggerError, match=r"^logger\.wandb: ModuleNotFoundError: "):
        check_loggers(composed("logger=wandb", *QUICK)[0])
    with pytest.raises(ConfigError, match=r"logger\.mine: 'Fraction' .* no log_hyperparams"):
        check_loggers(composed("logger=none", *QUICK, "+logger.mine={_target_: fractions.Fraction}")[0])
    own(__init__='raise ConnectionError("no route\\nto host")')
    with pytest.raises(LoggerError, match=r"^logger\.mine: ConnectionError: no route$"):
        check_loggers(composed("logger=none", *QUICK, *OWN)[0])
    own()
    run = composed("logger=none", *QUICK, *OWN)[0]
    for _ in range(5):
        check_loggers(run)
    assert sys.modules["mine_logger"].Mine.made == 1


@pytest.mark.parametrize("method", ["log_metrics", "finalize", "save", "log_hyperparams"])
@pytest.mark.parametrize("alone", [False, True])
def test_results_are_written_despite_a_failing_logger(tmp_path, own, method, alone, monkeypatch):
    monkeypatch.setattr(run_loggers, "ROWS_PER_SAVE", 5)
    body = "raise SystemExit(3)" if method == "finalize" else 'raise RuntimeError("disconnected")'
    own(**{method: body})
    jobs = [[*QUICK, *OWN, f"seed={seed}"] for seed in range(1 if alone else 5)]
    if method == "log_hyperparams":  # it cannot be opened: nothing is trained
        monkeypatch.setattr(run_loggers, "ROWS_PER_SAVE", 0)
        with pytest.raises(LoggerError, match=r"^logger\.mine: RuntimeError: disconnected$"):
            trained(tmp_path, *jobs, logger="csv")
        assert not list(tmp_path.glob("*/summary.json"))
        return
    outcomes = trained(tmp_path, *jobs, logger="csv")
    why = "logger.mine: SystemExit: 3" if method == "finalize" else "logger.mine: RuntimeError: disconnected"
    assert {str(outcome.error) for outcome in outcomes} == {why}
    trained(tmp_path / "without", *[[*QUICK, f"seed={seed}"] for seed in range(len(jobs))])
    for seed in range(len(jobs)):
        for name in ("trace.parquet", "factors.safetensors"):
            there = [folder / str(seed) / name for folder in (tmp_path, tmp_path / "without")]
            assert there[0].read_bytes() == there[1].read_bytes()
        assert (tmp_path / str(seed) / results.UNLOGGED).is_file()
    rows = pl.read_csv(tmp_path / "0" / "csv" / "metrics.csv")  # the other logger has all
    assert len(rows) == len(results.read_trace(tmp_path / "0"))
    logged = [(tmp_path / str(seed) / "csv" / "metrics.csv").is_file() for seed in range(len(jobs))]
    assert logged == ([True] if alone else [True, True, True, False, False])  # three in a row have failed


def test_logger_that_cannot_open_does_not_halve_the_batch(tmp_path, own):
    own(log_hyperparams='type(self).made += 100; raise OSError("closed")')
    pairs = [composed("logger=none", *QUICK, *OWN, f"seed={seed}") for seed in range(8)]
    targets = [LogTarget(tmp_path / str(i), tmp_path, "s", str(i), plain) for i, (_, plain) in enumerate(pairs)]
    jobs = [Job(i, run, target) for i, ((run, _), target) in enumerate(zip(pairs, targets, strict=True))]
    for job in jobs:
        job.target.folder.mkdir()
    ended = train_batch(jobs, Session(0, 8))
    assert sys.modules["mine_logger"].Mine.made == 101
    assert [str(each.error) for each in ended] == 8 * ["logger.mine: OSError: closed"]


def test_results_are_written_before_any_run_of_an_ensemble_is_logged(tmp_path, monkeypatch):
    seen = []

    def finalize(self, status):
        seen.append(sum(results.is_complete(folder) for folder in tmp_path.iterdir()))
        raise KeyboardInterrupt  # as from somebody who waits for a server

    monkeypatch.setattr(CSVLogger, "finalize", finalize)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, *[[*QUICK, f"seed={seed}"] for seed in range(4)], logger="csv")
    assert seen == [4]
    assert all((tmp_path / str(seed) / results.UNLOGGED).is_file() for seed in range(4))


def test_long_wandb_names_and_tags_are_shortened(tmp_path, monkeypatch):
    run, plain = composed("logger=wandb", *QUICK, f"observations.name={'n' * 200}", "logger.wandb.tags=[mine]")
    given = {}

    def init(**options):
        given.update(options)
        raise RuntimeError("enough")

    monkeypatch.setattr(wandb, "init", init)
    with pytest.raises(LoggerError, match="enough"):
        run_loggers.RunLog(run, LogTarget(tmp_path / "0", tmp_path, "g" * 300, "x" * 300, plain))
    assert wandb.Settings(run_tags=tuple(given["tags"]), project=given["project"]).run_tags  # W&B's own check
    assert len(given["name"]) == len(given["group"]) == 128 and given["tags"][0] == "mine"


@pytest.mark.slow
def test_failing_logger_of_a_sweep_is_reported_and_resume_logs(tmp_path, own):
    own(log_metrics='raise RuntimeError("disconnected")')
    sweep = ["-m", "depth=2", "seed=0,1", "max_iterations=100", "logger=csv", *OWN, "hydra.sweep.dir=s"]
    done = command_line(*sweep, cwd=tmp_path)
    assert done.code == 1 and done.err == "rankward: jobs 0, 1: logger.mine: RuntimeError: disconnected\n"
    assert "max_iterations after 100" in done.out and "s/runs.parquet" in done.out
    traces = [(tmp_path / "s" / run / "trace.parquet").stat().st_mtime_ns for run in "01"]
    own()
    last = command_line("resume", "s", cwd=tmp_path)
    assert last.code == 0 and last.out.count("complete, kept") == 2, last.err
    assert traces == [(tmp_path / "s" / run / "trace.parquet").stat().st_mtime_ns for run in "01"]
    assert not [path for path in (tmp_path / "s").rglob("*") if path.name in (results.UNLOGGED, results.FAILURE)]


def test_checking_loggers_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_loggers(composed("logger=[csv,tensorboard,wandb]", *QUICK)[0])
    assert not list(tmp_path.iterdir())
