"""Losses on the command line: refusals, reductions, hashes, ensembles, statements, and one of a user's own."""

import numpy as np
import pytest

import rankward as package
from helpers.in_process import assert_refused, command_line
from helpers.runs import composed, trained
from rankward import results
from rankward.config import config_hash
from rankward.config.errors import InputError
from rankward.theory import robustness_bound
from rankward.training.ensemble import Ensemble, traits

FLOW = ["depth='2'", "init=balanced", "init.determinant=positive", "init.scale=0.1", "lr=flow"]
LABELS = ["observations=perturbed", "observations.b_12=1", "observations.b_21=-1", "observations.b_22=-1"]


@pytest.mark.parametrize(("arguments", "words"), [
    ("loss=huber loss.delta=0", "loss.delta: 0.0 is not allowed; expected a positive finite number"),
    ("loss.reduction=men", "loss.reduction: 'men' is not allowed; expected one of half_sum, mean (did you mean 'mean'?)"),
    ("loss=logistic", "loss: 'logistic' is not allowed; expected another one: its observed values are 1 and -1, and "
                      "that at (1, 1) is 0"),
    ("loss=logistic observations=sensing", "its observed values are 1 and -1, and that at (0) is "),
    ("loss=l1 lr=flow", "loss: 'l1' is not allowed; expected one with a continuous derivative: lr=flow"),
    ("loss._target_=argparse.Namespace", "loss._target_: 'argparse.Namespace' is not allowed"),
])  # fmt: skip
def test_bad_input_is_refused(arguments, words):
    with pytest.raises(InputError) as refused:
        Ensemble.of([composed(*arguments.split())[0]])
    assert words in str(refused.value)


def test_an_unknown_key_is_refused_in_one_line(tmp_path):
    assert_refused(command_line("loss.delta=1", cwd=tmp_path), "loss.delta: no such key for this choice of loss")


def test_the_default_changes_no_hash():
    plain = composed()[1]
    without = {key: value for key, value in plain.items() if key not in ("loss", "stop_heldout")}
    assert config_hash(plain) == config_hash(without) == "ad8eb49d46a0c6e7"  # that of versions without the group
    others = [composed("loss.reduction=mean")[1], composed("loss=l1")[1], composed("loss=huber", "loss.delta=2")[1]]
    assert len({config_hash(each) for each in (plain, *others)}) == 4


def test_reduction_stopping_loss_and_checks_are_separate():
    def problem(*words):
        ensemble = Ensemble.of([composed(*words)[0]])
        made, checks = ensemble.problem, (ensemble.schedule.stride, ensemble.schedule.stop_checks)
        return made.loss_scale.item(), made.stop_loss.item(), checks, made.max_iterations.item()

    tensor = ["factorization=tensor", "observations=tensor_order3", "observations.count=40", "init.scale=0.1"]
    tensor += ["metrics=tensor"]
    assert problem() == (1, 1e-4, (50, 1), 5_000_000)
    assert problem("loss.reduction=mean") == (2 / 3, 1e-6, (50, 1), 5_000_000)
    assert problem("loss=huber", "loss.reduction=mean") == (1 / 3, 1e-6, (50, 1), 5_000_000)
    assert problem(*tensor) == (2 / 40, 1e-6, (100, 3), 1_000_000)
    assert problem(*tensor, "loss.reduction=half_sum") == (1, 1e-4, (100, 3), 1_000_000)


def test_runs_of_one_loss_share_an_ensemble():
    runs = [composed("loss=huber", f"loss.reduction={each}")[0] for each in ("mean", "half_sum")]
    assert len({traits(run) for run in (*runs, composed("loss=huber", "loss.delta=2")[0])}) == 2


@pytest.mark.slow
def test_statements_judge_the_half_sum_of_a_mean_and_no_other_loss(tmp_path):
    """Of one flow: the mean's rows have the bound of 3/2 of their loss, and the same verdicts as the half sum's."""
    same = ["stop_loss=1e-3"]
    trained(tmp_path / "a", [*FLOW, "stop_loss=1.5e-3"])
    trained(tmp_path / "b", [*FLOW, *same, "loss.reduction=mean"])
    trained(tmp_path / "c", [*FLOW, *same, "loss=huber"])
    half, mean, huber = (results.read_summary(tmp_path / each / "0") for each in "abc")
    trace = results.read_trace(tmp_path / "b" / "0")
    bound, loss = trace["bound/entry/0_0"].to_numpy(), trace["loss"].to_numpy()
    known = ~np.isnan(bound)  # rounding leaves no doubt about the determinant's sign
    assert known.sum() > 20
    np.testing.assert_allclose(bound[known], robustness_bound(1.5 * loss[known]), rtol=1e-12)
    for name, found in half["certificates"].items():
        assert mean["certificates"][name]["verdict"] == found["verdict"], name
    assert half["certificates"]["theorem_2/entry/0_0"]["verdict"] == "holds"
    assert mean["metrics"]["entry/0_0"] == pytest.approx(half["metrics"]["entry/0_0"], rel=1e-2)
    assert not [name for name in results.read_trace(tmp_path / "c" / "0").columns if name.startswith("bound/")]
    verdicts = {name: found for name, found in huber["certificates"].items() if name != "conservation"}
    assert {found["premise"] for found in verdicts.values()} == {"the squared loss (Equation 1)"}
    assert huber["certificates"]["conservation"]["verdict"] == "holds"


@pytest.mark.slow
def test_a_logistic_flow_grows_like_its_law(tmp_path):
    """One layer: each observed entry p alone has p' = 1 / (1 + e^p), so p + e^p grows by the time."""
    job = [*LABELS, "engine=reference", "depth='1'", "lr=flow", "loss=logistic", "init.scale=0.5", "stop_loss=1e-3"]
    (ended,) = trained(tmp_path, job)
    assert ended.status == "converged"
    arrays, trace = results.read_arrays(tmp_path / "0"), results.read_trace(tmp_path / "0")
    signed = [arrays[name] * arrays["observations.values"] for name in ("initial.0", "product")]
    start, end = (each[arrays["observations.mask"]] for each in signed)
    np.testing.assert_allclose((end + np.exp(end)) - (start + np.exp(start)), trace["time"][-1], rtol=1e-6)


@pytest.mark.slow
def test_an_own_loss_is_one_file_and_one_yaml(tmp_path):
    (tmp_path / "cosh.py").write_text(
        "from rankward.losses import Loss\n\n\n"
        "class LogCosh(Loss):\n"
        "    def __init__(self, width):\n"
        "        self.width = width\n\n"
        "    def value(self, prediction, observed):\n"
        "        size = ((prediction - observed) / self.width).abs()\n"
        "        return self.width**2 * (size + (-2 * size).exp().log1p())\n",
        encoding="utf-8",
    )
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    yaml = "name: cosh\n_target_: cosh.LogCosh\nwidth: 0.5\nreduction: null\n"
    (tmp_path / "conf" / "loss" / "cosh.yaml").write_text(yaml, encoding="utf-8")
    words = ["--config-dir=conf", "loss=cosh", "max_iterations=100", "logger=none", "metrics=few", "depth=1"]
    done = command_line(*words, "loss.reduction=mean", "hydra.run.dir=o", cwd=tmp_path, trains=True)
    assert done.code == 0, done.err
    runs = package.load(tmp_path / "o").runs
    assert runs["engine"].to_list() == ["fused"] and runs["loss.width"].to_list() == [0.5]
    product = results.read_arrays(tmp_path / "o")["product"]
    residual = (product - np.array([[0, 1], [1, 0]]))[[0, 1, 1], [1, 0, 1]] / 0.5
    expected = 0.25 * np.mean(np.log(2 * np.cosh(residual)))
    assert runs["loss"][0] == pytest.approx(expected, rel=1e-12)
    ended = command_line(*words, "loss.widht=1", cwd=tmp_path)
    assert ended.code == 2 and "loss.widht" in ended.err
    ended = command_line(*words, "loss.reduction=sum", cwd=tmp_path)
    assert ended.code == 2 and "loss.reduction: 'sum' is not allowed; expected one of half_sum, mean" in ended.err
