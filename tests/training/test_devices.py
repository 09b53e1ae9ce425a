"""Devices that are not there, that are too small, and what a GPU's engines leave when Lightning drives them."""

import importlib.util
import os
from types import SimpleNamespace

import pytest
import torch

from helpers.commands import computed, rankward
from helpers.runs import composed
from rankward import results
from rankward.config import ConfigError
from rankward.sweeps.execution import ensembles
from rankward.training import devices
from rankward.training import train as training


def run_on(*overrides):
    return composed("logger=none", *overrides)[0]


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (AssertionError("Torch not compiled with CUDA enabled"), "this PyTorch is a build without CUDA"),
        (RuntimeError("Found no NVIDIA driver on your system. Please check"), "Found no NVIDIA driver on your system"),
        (
            RuntimeError("The NVIDIA driver on your system is too old (found version 11040). Please update"),
            "driver on your system is too old (found version 11040)",
        ),
    ],
)
def test_why_a_gpu_cannot_be_used(monkeypatch, raised, words):
    def init():
        raise raised

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    with pytest.raises(ConfigError, match="trainer: 'gpu' is not allowed; expected cpu or auto: ") as told:
        devices.check_devices(run_on("trainer=gpu"))
    assert words in str(told.value) and "\n" not in str(told.value)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(ConfigError, match="MPS has no float64"):
        devices.check_devices(run_on("trainer=gpu"))
    devices.check_devices(run_on("trainer=cpu"))


def test_more_devices_than_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    devices.check_devices(run_on("trainer=gpu", "trainer.devices=2"))
    with pytest.raises(ConfigError, match="trainer.devices: 3 is not allowed; expected at most 2"):
        devices.check_devices(run_on("trainer=gpu", "trainer.devices=3"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda card: (2**30 * (1 + card.index), 2**34))
    assert (
        devices.free_memory(run_on("trainer=gpu", "trainer.devices=2")) == 1.5 * 2**30
    )  # half of what is free on both
    assert devices.free_memory(run_on("trainer=cpu")) == float("inf")


def test_ensemble_that_fails_without_a_failing_run_is_reported(monkeypatch, capsys, tmp_path):
    def train(runs, *_):
        if len(runs) > 1 or bad & {run.seed for run in runs}:
            raise ValueError("of many")
        summary = {"metrics": {"loss": 0.5}, "iterations": 1, "seconds": 0.0, "engine": "cuda"}
        return [SimpleNamespace(error=None, is_written=True, status="converged", summary=summary, folder="f")]

    monkeypatch.setattr(training, "train", train)
    batch = [ensembles.Job(number, run_on(f"seed={number}"), SimpleNamespace(folder=tmp_path)) for number in range(4)]
    bad = set()
    assert all(ended.error is None for ended in ensembles.train_batch(batch, ensembles.Session(0, 1000)))
    told = "rankward: 4 runs were trained separately: as an ensemble they raised ValueError: of many\n"
    assert capsys.readouterr().err == told
    bad = {2}
    assert [ended.error is None for ended in ensembles.train_batch(batch, ensembles.Session(0, 1000))] == [
        True,
        True,
        False,
        True,
    ]
    assert capsys.readouterr().err == ""


def test_out_of_memory_halves_the_batch_once(monkeypatch, capsys, tmp_path):
    sizes = []

    def train(runs, *_):
        sizes.append(len(runs))
        if len(runs) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        summary = {"metrics": {"loss": 0.5}, "iterations": 1, "seconds": 0.0, "engine": "cuda"}
        return [
            SimpleNamespace(error=None, is_written=True, status="converged", summary=summary, folder="f") for _ in runs
        ]

    monkeypatch.setattr(training, "train", train)
    run = run_on()
    batch = [ensembles.Job(number, run, SimpleNamespace(folder=tmp_path)) for number in range(6)]
    assert [ended.error for ended in ensembles.train_batch(batch, ensembles.Session(0, 1000))] == [
        None
    ] * 6 and sizes == [6, 3, 3]
    assert capsys.readouterr().err == "rankward: 6 runs do not fit into the GPU's memory; they are trained in halves\n"
    sizes.clear()
    batch = [ensembles.Job(number, run, SimpleNamespace(folder=tmp_path)) for number in range(8)]
    ended = ensembles.train_batch(batch, ensembles.Session(0, 1000))
    assert sizes == [8, 4, 4] and all(isinstance(each.error, torch.OutOfMemoryError) for each in ended)


def test_one_processor_is_one_device(tmp_path):
    refused = rankward("trainer.devices=2", "logger=none", cwd=tmp_path)
    assert refused.returncode == 2 and "trainer.devices: 2 is not allowed" in refused.stderr


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="needs numba-cuda: .[gpu]")
def test_lightning_drives_the_gpu_kernel_to_the_bytes_of_the_processor(tmp_path):
    """In numba-cuda's simulator: two runs and, once killed, the checkpoint of one engine taken up by the other."""
    sweep = ["-m", "seed=0,1", "depth=2", "max_iterations=300", "init.scale=0.1", "lr.eta=0.1", "logger=none"]
    simulator = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    there = rankward(*sweep, "engine=cuda", "hydra.sweep.dir=there", cwd=tmp_path, env=simulator)
    here = rankward(*sweep, "hydra.sweep.dir=here", cwd=tmp_path)
    batched = rankward(*sweep, "engine=batched", "hydra.sweep.dir=batched", cwd=tmp_path)
    assert there.returncode == here.returncode == batched.returncode == 0, there.stderr + here.stderr + batched.stderr
    assert len(computed(tmp_path / "there")) == 4 and computed(tmp_path / "there") == computed(tmp_path / "here")
    for run in "01":
        summaries = [results.read_summary(tmp_path / sweep / run) for sweep in ("there", "here", "batched")]
        assert [each["engine"] for each in summaries] == ["cuda", "fused", "batched"]
        assert summaries[2]["metrics"]["loss"] == pytest.approx(summaries[1]["metrics"]["loss"], rel=1e-9)
        assert summaries[0]["tf32"] is False


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_trainer_gpu_leaves_the_bytes_of_the_processor(tmp_path):
    sweep = ["-m", "depth=2,3", "seed=range(0,20)", "max_iterations=20000", "logger=none"]
    there = rankward(*sweep, "trainer=gpu", "hydra.sweep.dir=there", cwd=tmp_path)
    here = rankward(*sweep, "hydra.sweep.dir=here", cwd=tmp_path)
    assert there.returncode == here.returncode == 0, there.stderr + here.stderr
    assert len(computed(tmp_path / "there")) == 80 and computed(tmp_path / "there") == computed(tmp_path / "here")
    for run in range(40):
        assert results.read_summary(tmp_path / "there" / str(run))["device"].startswith("cuda")
