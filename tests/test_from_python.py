"""`rankward.run` and `rankward.sweep`: the files of the command line, inside a program that goes on."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from hydra import compose, initialize_config_dir, version
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

import rankward
from helpers import in_process
from helpers.commands import leavings
from helpers.runs import interrupted_after
from rankward import results, terminal
from rankward.config import ConfigError, InputError
from rankward.config.errors import SweepError
from rankward.training.callbacks import GracefulInterrupt
from rankward.training.module import EnsembleModule

JOB = ["depth=2", "init.scale=1e-2", "max_iterations=100", "logger=none", "engine=reference"]


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    GlobalHydra.instance().clear()


def test_a_run_leaves_the_files_of_the_command_line(tmp_path, capsys):
    run = rankward.run(*JOB, "record.product=true", seed=1, **{"lr.eta": 1e-2})
    assert capsys.readouterr().out.startswith(f"{run.folder}: depth 2, gaussian: max_iterations after 100 iterations")
    assert run.folder.is_absolute() and run.folder.parents[1] == tmp_path / "outputs"
    given = [*JOB, "record.product=true", "seed=1", "lr.eta=0.01"]
    in_process.rankward(*given, "hydra.run.dir=b", cwd=tmp_path)
    assert leavings(tmp_path, run.folder) == {
        (run.folder.name, name): b for (_, name), b in leavings(tmp_path, "b").items()
    }
    assert (run.folder / results.TRAJECTORY).read_bytes() == (tmp_path / "b" / results.TRAJECTORY).read_bytes()


@pytest.mark.slow
def test_a_sweep_leaves_the_files_of_the_command_line(tmp_path, capsys):
    made = rankward.sweep(*JOB, "lr.eta=1e-2", seed=range(2), quiet=True)
    in_process.rankward("-m", *JOB, "lr.eta=1e-2", "seed=0,1", "hydra.sweep.dir=c", cwd=tmp_path)
    assert made.folder.parent == tmp_path / "multirun_outputs" and leavings(made.folder) == leavings(tmp_path / "c")
    assert made.runs["lr.eta"].to_list() == [0.01, 0.01]
    assert capsys.readouterr() == ("", "")
    assert results.read_trace(made.folder / "1").equals(made.run(1).trace)


def test_the_program_around_it_keeps_its_state(tmp_path):
    (tmp_path / "own.yaml").write_text("a: 1\n")
    logging.getLogger().addHandler(handler := logging.FileHandler(tmp_path / "own.log", mode="w"))
    before = dict(os.environ), list(sys.argv), logging.getLogger().handlers[:], logging.getLogger().level
    with initialize_config_dir(str(tmp_path), version_base="1.2"):
        mine = GlobalHydra.instance().hydra
        run = rankward.run(*JOB, "+hydra.job.env_set.OWN_VARIABLE=x", quiet=True)
        assert GlobalHydra.instance().hydra is mine and compose("own") == {"a": 1} and str(version.getbase()) == "1.2"
        with pytest.raises(InputError):
            rankward.run("nosuch=1")
        assert GlobalHydra.instance().hydra is mine
    assert not HydraConfig.initialized() and not GlobalHydra.instance().is_initialized()
    logging.getLogger().error("goes on")
    logging.getLogger().removeHandler(handler)
    handler.close()
    after = dict(os.environ), list(sys.argv), [*logging.getLogger().handlers, handler], logging.getLogger().level
    assert (tmp_path / "own.log").read_text() == "goes on\n"
    assert "OWN_VARIABLE" not in after[0] and "HYDRA_FULL_ERROR" not in after[0] and after[1:] == before[1:]
    assert run.summary["iterations"] == 100


@pytest.mark.parametrize(
    "train, message",
    [
        (lambda: rankward.run("depth=2", sed=1), "sed: no such key; .*did you mean 'seed'"),
        (lambda: rankward.run("lr.eta=-1"), "lr.eta: -1.0 is not allowed; expected a positive finite number"),
        (lambda: rankward.run("depth=2,3"), "depth: '2,3' are several values: rankward.sweep trains them all"),
        (lambda: rankward.run(seed=range(3)), "seed: range.0, 3. is not allowed; expected one value"),
        (lambda: rankward.run("-m"), "override: '-m' is not allowed; .*rankward.sweep many"),
        (lambda: rankward.run("--config-dri=x"), "did you mean '--config-dir'"),
        (lambda: rankward.run("--config-dir=nosuch"), "Additional config directory '.*nosuch' not found"),
        (lambda: rankward.run("depth"), "override: 'depth' is not allowed; expected key=value"),
        (lambda: rankward.run({"depth": 2}), "override: .* is not allowed; expected a text"),
        (lambda: rankward.run(seed=object()), "seed: .* is not allowed; expected a number, a text"),
        (lambda: rankward.sweep(seed=()), "seed: .. is not allowed; expected at least one value"),
    ],
)
def test_bad_input_is_an_error_in_one_line(tmp_path, capsys, train, message):
    with pytest.raises(InputError, match=message) as raised, in_process.shapes_unchecked():
        train()
    assert "\n" not in str(raised.value) and list(tmp_path.iterdir()) == [] and capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_errors_of_a_sweep_have_notes(tmp_path, monkeypatch):
    with pytest.raises(ConfigError) as raised:
        rankward.sweep(*JOB[1:], depth=[2, 3])
    assert raised.value.__notes__ == ["depth: a list is one value; several values are a tuple or a range: depth=(2, 3)"]
    with pytest.raises(SweepError, match=r"job 1 \(.*lr.eta=-1.0\): lr.eta: -1.0 is not allowed"):
        rankward.sweep(*JOB, **{"lr.eta": np.array([1.0, -1.0])})
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("rankward.training.outputs.EnsembleOutputs.summary", lambda *_: 1 / 0)
    with pytest.raises(SweepError, match="ZeroDivisionError") as raised:
        rankward.sweep(*JOB, seed=(0, 1), quiet=True)
    (folder,) = (tmp_path / "multirun_outputs").iterdir()
    assert raised.value.__notes__ == [f"rankward.load({str(folder)!r}) reads the runs that have ended"]


@pytest.mark.slow
def test_an_own_error_keeps_its_type(monkeypatch):
    monkeypatch.setattr("rankward.training.outputs.EnsembleOutputs.summary", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        rankward.run(*JOB, quiet=True)


@pytest.mark.slow
def test_an_interrupted_run_goes_on_in_the_same_process(tmp_path, monkeypatch):
    job = [*JOB, "max_iterations=500"]
    whole = rankward.run(*job, quiet=True)
    with monkeypatch.context() as patched:
        interrupted_after(patched, 1)
        with pytest.raises(KeyboardInterrupt, match="interrupted; rankward resume"):
            rankward.run(*job, "hydra.run.dir=parts", quiet=True)
    stopped = rankward.Run("parts")
    assert stopped.summary["status"] == "interrupted" and stopped.summary["iterations"] < 500
    assert rankward.run(*job, "hydra.run.dir=parts", quiet=True).trace.equals(whole.trace)


@pytest.mark.slow
def test_an_interruption_at_once_is_one_too(monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patched:
        patched.setattr(
            EnsembleModule,
            "training_step",
            lambda *_: signal.raise_signal(signal.SIGINT) or signal.raise_signal(signal.SIGINT),
        )
        with pytest.raises(KeyboardInterrupt):
            rankward.run(*JOB, "hydra.run.dir=again", quiet=True)
    assert signal.getsignal(signal.SIGINT) is before
    assert rankward.run(*JOB, "hydra.run.dir=again", quiet=True).summary["iterations"] == 100


@pytest.mark.slow
def test_another_thread_trains_too():
    made = []
    thread = threading.Thread(target=lambda: made.append(rankward.run(*JOB, quiet=True)))
    thread.start()
    thread.join()
    assert made[0].summary["iterations"] == 100


@pytest.mark.parametrize("inside", [False, True])
def test_a_second_interruption_ends_only_the_training(inside):
    callback, module = GracefulInterrupt(), SimpleNamespace(interrupted=False)
    before = signal.getsignal(signal.SIGINT)
    with in_process.shapes_unchecked(), terminal.inside_program() if inside else contextlib.nullcontext():
        callback.on_train_start(None, module)
    os.kill(os.getpid(), signal.SIGINT)
    assert module.interrupted and signal.getsignal(signal.SIGINT) is (before if inside else signal.SIG_DFL)
    with in_process.shapes_unchecked():
        callback.on_train_end(None, module)
    assert signal.getsignal(signal.SIGINT) is before


def test_progress_is_shown_in_terminals_and_notebooks(monkeypatch):
    stream = type("OutStream", (), {"__module__": "ipykernel.iostream", "isatty": lambda self: False})()
    for stderr, shown in ((stream, True), (SimpleNamespace(isatty=lambda: True), True), (None, False)):
        monkeypatch.setattr(sys, "stderr", stderr)
        assert terminal.shows_progress() is shown
        with terminal.inside_program(quiet=True):
            assert not terminal.shows_progress()


@pytest.mark.slow
def test_the_import_is_light():
    code = "import sys, rankward; print(*sorted(rankward.__all__)); assert not {'torch', 'hydra', 'polars'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == sorted(rankward.__all__)
    assert {name for name in dir(rankward) if not name.startswith("_")} >= set(rankward.__all__)
