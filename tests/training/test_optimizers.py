"""Optimizers on the command line: choices, refusals, ensembles, resuming, hashes, and one of a user's own."""

import math

import pytest

import rankward as package
from helpers.in_process import assert_refused, command_line
from helpers.runs import composed
from rankward.config import ConfigError, config_hash
from rankward.config.groups import CosineRate, Spectral
from rankward.config.recording import without_unset
from rankward.training.ensemble import Ensemble, traits

SHORT = ("logger=none", "metrics=few", "depth=1", "lr.eta=1e-2")


@pytest.mark.parametrize(("arguments", "words"), [
    ("optimizer=adam optimizer.betas=[0.9,1]", "optimizer.betas: [0.9, 1.0] is not allowed"),
    ("optimizer=adam optimizer.betas=[0.9]", "optimizer.betas: [0.9] is not allowed; expected two numbers"),
    ("optimizer=adamw optimizer.betas=[-0.1,0.9]", "optimizer.betas"),
    ("optimizer=adam optimizer.eps=0", "optimizer.eps: 0.0 is not allowed; expected a positive finite number"),
    ("optimizer=rmsprop optimizer.alpha=1", "optimizer.alpha"),
    ("optimizer=rmsprop optimizer.momentum=nan", "optimizer.momentum"),
    ("optimizer=momentum optimizer.momentum=1", "optimizer.momentum: 1.0 is not allowed; expected a number from 0"),
    ("optimizer=momentum optimizer.dampening=2", "optimizer.dampening"),
    ("optimizer=momentum optimizer.momentum=0 optimizer.nesterov=true", "optimizer.nesterov: True is not allowed"),
    ("optimizer=momentum optimizer.dampening=0.1 optimizer.nesterov=true", "optimizer.dampening=0"),
    ("optimizer=sign optimizer.momentum=-0.1", "optimizer.momentum"),
    ("optimizer.weight_decay=-1", "optimizer.weight_decay: -1.0 is not allowed; expected a finite number of at least 0"),
    ("optimizer=adamw optimizer.weight_decay=inf", "optimizer.weight_decay"),
    ("optimizer=adam lr=flow", "optimizer: 'adam' is not allowed; expected descent: lr=flow makes its own steps"),
    ("optimizer=sign lr=adaptive", "optimizer: 'sign' is not allowed; expected descent: lr=adaptive"),
    ("optimizer.weight_decay=0.1 lr=adaptive", "optimizer.weight_decay: 0.1 is not allowed; expected 0: lr=adaptive"),
    ("optimizer.weight_decay=0.1 lr=flow", "lr.max_time: None is not allowed; expected a positive finite number, or max_it"),
    ("optimizer.label_noise=-1", "optimizer.label_noise: -1.0 is not allowed; expected a finite number of at least 0"),
    ("optimizer=adam optimizer.gradient_noise=nan", "optimizer.gradient_noise"),
    ("optimizer.batch=0", "optimizer.batch: 0 is not allowed; expected an integer of at least 1"),
    ("optimizer.batch=4", "optimizer.batch: 4 is not allowed; expected at most 3, the number of observed entries"),
    ("optimizer.batch=2 lr=flow", "optimizer.batch: 2 is not allowed; expected null: lr=flow"),
    ("optimizer.label_noise=1 lr=adaptive", "optimizer.label_noise: 1.0 is not allowed; expected 0: lr=adaptive"),
    ("optimizer=adam optimizer.beta=0.9", "optimizer.beta: no such key"),
    ("optimizer.momentum=0.9", "optimizer.momentum"),
    ("optimizer=admm", "optimizer: 'admm' is not a choice; choose from adam, adamw"),
    ("factorization=hierarchical observations=tensor_order3 metrics=tensor optimizer=spectral", "is no matrix"),
    ("lr=cosine lr.warmup_steps=9 max_iterations=9", "lr.warmup_steps: 9 is not allowed; expected an integer below max"),
    ("lr=cosine lr.warmup_steps=5000000", "warmup_steps 5000000 must be below the 5000000 steps"),
    ("lr=cosine dtype=float32 lr.decay_steps=16777217", "lr.decay_steps: 16777217 is not allowed; expected at most 1677"),
    ("lr=cosine lr.beta=0.9", "lr.beta: no such key"),
    ("lr=cosine lr._target_=argparse.Namespace", "lr._target_: 'argparse.Namespace' is not allowed"),
    ("optimizer._target_=argparse.Namespace", "optimizer._target_: 'argparse.Namespace' is not allowed"),
])  # fmt: skip
def test_bad_input_is_refused_in_one_line(tmp_path, arguments, words):
    assert_refused(command_line(*arguments.split(), cwd=tmp_path), words)


@pytest.mark.parametrize(("make", "keys", "words"), [
    (CosineRate, {"eta": 0.0}, "lr.eta: 0.0 .* positive"),
    (CosineRate, {"warmup_steps": -1}, "lr.warmup_steps: -1 .* at least 0"),
    (CosineRate, {"warmup_steps": 5, "decay_steps": 5}, "lr.warmup_steps: 5 .* below lr.decay_steps=5"),
    (CosineRate, {"end_factor": math.nan}, "lr.end_factor: nan .* from 0 to 1"),
    (CosineRate, {"start_factor": 0.5}, "lr.start_factor: 0.5 .* 0, as lr.warmup_steps is 0"),
    (Spectral, {"momentum": 0.0}, "optimizer.nesterov: True .*momentum above 0"),
    (Spectral, {"momentum": 1.0}, "optimizer.momentum: 1.0 .* below 1"),
    (Spectral, {"momentum": 0.9, "ns_steps": 0}, "optimizer.ns_steps: 0 .* from 1 to 100, or null"),
])  # fmt: skip
def test_bad_values_of_a_schedule_and_of_spectral_descent(make, keys, words):
    with pytest.raises(ConfigError, match=words):
        make(name="x", _target_="x", **({"eta": 0.1} if make is CosineRate else {}) | keys)


def test_the_default_changes_no_hash():
    plain = composed()[1]
    without = {key: value for key, value in plain.items() if key != "optimizer"}
    assert plain["optimizer"]["name"] == "descent" and config_hash(plain) == config_hash(without)
    others = [composed("optimizer.weight_decay=0.1")[1], composed("optimizer=momentum")[1]]
    assert len({config_hash(each) for each in (plain, *others)}) == 3
    off = [f"optimizer.{key}" for key in ("label_noise=0", "gradient_noise=0.0", "batch=null")]
    assert not {"label_noise", "gradient_noise", "batch"}.intersection(without_unset(composed(*off)[1])["optimizer"])
    assert config_hash(composed("optimizer.batch=2")[1]) != config_hash(composed(*off)[1]) == config_hash(plain)


def runs_of(*overrides):
    return composed(*overrides)[0]


def test_plain_descent_keeps_its_path_and_numbers_share_an_ensemble():
    assert Ensemble.of([runs_of()]).problem.rule is None
    momenta = [runs_of("optimizer=momentum", f"optimizer.momentum={each}") for each in (0.0, 0.5, 0.9)]
    ensemble = Ensemble.of(momenta)
    assert ensemble.problem.dynamics == "optimizer"
    assert ensemble.problem.rule.numbers[:, 0].tolist() == [0.0, 0.5, 0.9]
    assert len({traits(run) for run in momenta}) == 1
    others = [
        runs_of("optimizer=momentum", "optimizer.nesterov=true"),
        runs_of("optimizer.weight_decay=0.1"),
        runs_of(),
    ]
    assert len({traits(run) for run in (*momenta, *others)}) == 4
    cosines = [runs_of("lr=cosine", f"lr.warmup_steps={each}", f"lr.decay_steps={each + 9}") for each in (0, 5)]
    ensemble = Ensemble.of(cosines)
    assert ensemble.problem.dynamics == "optimizer"  # which has no edge: its 2/eta is NaN
    assert ensemble.problem.rule.numbers[:, :3].tolist() == [[0, 0, 9], [0, 5, 14]]
    noisy = [runs_of(f"optimizer.label_noise={each}", "optimizer.batch=2", f"seed={each}") for each in (1, 2)]
    rule = Ensemble.of(noisy).problem.rule
    assert rule.kinds == ("labels", "batch") and rule.numbers.tolist() == [[0.0, 1.0], [0.0, 2.0]]
    assert len({traits(run) for run in (*noisy, runs_of("optimizer.label_noise=1"))}) == 2


@pytest.mark.slow
def test_a_sweep_over_optimizers_resumes_to_the_same_bytes(tmp_path):
    words = ["-m", "optimizer=momentum,adam", "seed=0,1", "max_iterations=4000", *SHORT]
    assert command_line(*words, "hydra.sweep.dir=s", cwd=tmp_path, trains=True).code == 0
    runs = package.load(tmp_path / "s").runs
    assert runs["optimizer.name"].to_list() == ["momentum", "momentum", "adam", "adam"]
    assert set(runs["engine"]) == {"fused"}
    before = (tmp_path / "s" / "3" / "trace.parquet").read_bytes()
    (tmp_path / "s" / "3" / "summary.json").unlink()
    assert command_line("resume", "s", cwd=tmp_path, trains=True).code == 0
    assert (tmp_path / "s" / "3" / "trace.parquet").read_bytes() == before


def test_an_own_optimizer_is_one_file_and_one_yaml(tmp_path):
    (tmp_path / "falling.py").write_text(
        "from rankward.dynamics import Optimizer\n\n\n"
        "class Falling(Optimizer):\n"
        "    def __init__(self, power):\n"
        "        self.power = power\n\n"
        "    def update(self, parameter, gradient, state, eta, iteration):\n"
        "        return parameter - eta * iteration ** (-self.power) * gradient, {}\n",
        encoding="utf-8",
    )
    (tmp_path / "conf" / "optimizer").mkdir(parents=True)
    yaml = "name: falling\n_target_: falling.Falling\npower: 0.5\n"
    (tmp_path / "conf" / "optimizer" / "falling.yaml").write_text(yaml, encoding="utf-8")
    words = ["--config-dir=conf", "optimizer=falling", "max_iterations=100", *SHORT]
    done = command_line(*words, "hydra.run.dir=o", cwd=tmp_path, trains=True)
    assert done.code == 0, done.err
    runs = package.load(tmp_path / "o").runs
    assert runs["engine"].to_list() == ["fused"] and runs["optimizer.power"].to_list() == [0.5]
    ended = command_line(*words, "+optimizer.label_noise=-1", cwd=tmp_path)
    assert ended.code == 2 and "optimizer.label_noise: -1" in ended.err
    ended = command_line(*words, "optimizer.rate=1", cwd=tmp_path)
    assert ended.code == 2 and "optimizer.rate" in ended.err


@pytest.mark.slow
def test_an_own_schedule_is_one_file_and_one_yaml(tmp_path):
    (tmp_path / "powers.py").write_text(
        "from rankward.optimizers import RateSchedule\n\n\n"
        "class Power(RateSchedule):\n"
        "    def __init__(self, power, max_iterations):\n"
        "        self.power, self.steps = power, float(max_iterations)\n\n"
        "    def factor(self, iteration):\n"
        "        return (1 - (iteration - 1) / self.steps) ** self.power\n\n\n"
        "class Wrong(Power):\n"
        "    def factor(self, iteration):\n"
        "        return self.power.expand(2)\n",
        encoding="utf-8",
    )
    (tmp_path / "conf" / "lr").mkdir(parents=True)
    yaml = "name: power\n_target_: powers.Power\neta: 0.1\npower: 0.5\n"
    (tmp_path / "conf" / "lr" / "power.yaml").write_text(yaml, encoding="utf-8")
    words = ["-m", "--config-dir=conf", "lr=power", "lr.power=0.5,1.0", "max_iterations=100", "logger=none", "depth=1"]
    done = command_line(*words, "hydra.sweep.dir=o", cwd=tmp_path, trains=True)
    assert done.code == 0, done.err
    runs = package.load(tmp_path / "o").runs
    assert set(runs["engine"]) == {"fused"} and runs["lr.power"].to_list() == [0.5, 1.0]
    assert runs["loss"].n_unique() == 2
    words = ["--config-dir=conf", "lr=power", "logger=none"]
    assert_refused(command_line(*words, "lr.rate=1", cwd=tmp_path), "lr.rate")
    ended = command_line(*words, "lr._target_=powers.Wrong", cwd=tmp_path)
    assert_refused(ended, "lr: 'power' is not allowed; expected a factor that returns a tensor of float64, one number")
