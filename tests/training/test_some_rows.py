"""Metrics that are measured in some rows of a run, with the sharpness as the example."""

import sys

import numpy as np
import pytest
import torch

from helpers.runs import composed, contents, interrupted_after, trained
from rankward import results
from rankward.config import ConfigError
from rankward.training.ensemble import Ensemble
from rankward.training.module import EnsembleModule, spread

RUN = ["depth='3'", "init=balanced", "init.determinant=positive", "lr.eta=2e-2", "max_iterations=4000", "stop_loss=0"]
COLUMNS = ["curvature/sharpness", "curvature/two_over_eta"]


def with_rows(rows, *job):
    return [*(job or RUN), "metrics=sharpness", f"metrics.columns.sharpness.rows={rows}"]


def read(folder):
    return results.read_trace(folder).select("iteration", *COLUMNS)


def sharpest(folder):
    """The largest eigenvalue at a run's final factors, by torch.func from Equation 6's loss, written anew."""
    arrays = results.read_arrays(folder)
    factors = [torch.from_numpy(np.asarray(arrays[f"final.{layer}"])) for layer in range(3)]

    def height(point):
        below, middle, above = point.reshape(3, 2, 2)
        product = above @ middle @ below
        return ((product[0, 1] - 1) ** 2 + (product[1, 0] - 1) ** 2 + product[1, 1] ** 2) / 2

    return np.linalg.eigvalsh(torch.func.hessian(height)(torch.stack(factors).flatten()).numpy())[-1]


def test_by_default_the_last_row_is_measured_and_no_other(tmp_path):
    trained(tmp_path, [*RUN, "metrics=sharpness"])
    trained(tmp_path / "plain", RUN)
    trace = read(tmp_path / "0")
    assert trace[COLUMNS[0]][-1] == pytest.approx(sharpest(tmp_path / "0"), rel=1e-10)
    assert trace[COLUMNS[1]][-1] == 2 / 2e-2
    assert trace.select(COLUMNS)[:-1].to_numpy().size and np.isnan(trace.select(COLUMNS)[:-1].to_numpy()).all()
    assert results.read_summary(tmp_path / "0")["metrics"][COLUMNS[0]] == trace[COLUMNS[0]][-1]
    plain, both = (results.read_trace(folder / "0") for folder in (tmp_path / "plain", tmp_path))
    assert plain.equals(both.drop(COLUMNS))  # off by default, and nothing else changes


@pytest.mark.parametrize("rows", [2, 3, 5, 500])
def test_some_rows_are_spread_over_the_trace(tmp_path, rows):
    """Those that a loop finds: the first one at or after each iteration, evenly spaced in the logarithm from 50 to 4,000."""
    trained(tmp_path, with_rows(rows))
    trace = read(tmp_path / "0")
    iterations = trace["iteration"].to_list()
    targets = [0.0] + [50 * round((4000 / 50) ** (k / (rows - 1))) for k in range(1, rows - 1)]
    expected = {next(each for each in iterations if each >= target) for target in targets} | {iterations[-1]}
    measured = trace.filter(trace[COLUMNS[0]].is_not_nan())
    assert set(measured["iteration"]) == expected and len(expected) <= rows
    assert len(expected) == rows or rows == 500
    assert trace[COLUMNS[1]].is_nan().equals(trace[COLUMNS[0]].is_nan())
    assert trace[COLUMNS[0]][-1] == pytest.approx(sharpest(tmp_path / "0"), rel=1e-10)


def test_limits_shorter_than_a_check_and_of_each_run():
    assert spread(np.array([20, 5000]), 50, 4).tolist() == [[0, 50, 50], [0, 250, 1100]]
    assert spread(np.array([20]), 50, 2).tolist() == [[0]]


def test_bytes_are_the_same_alone_in_company_and_after_an_interruption(tmp_path, monkeypatch):
    jobs = [with_rows(6, *RUN, f"seed={seed}", f"max_iterations={200_000 * (seed + 1)}") for seed in range(3)]
    trained(tmp_path / "all", *jobs)
    for seed, job in enumerate(jobs):
        trained(tmp_path / f"alone_{seed}", job)
        assert contents(tmp_path / "all" / str(seed)) == contents(tmp_path / f"alone_{seed}" / "0")
    with monkeypatch.context() as patched:
        interrupted_after(patched, 4)
        (outcome,) = trained(tmp_path / "parts", jobs[2])
    assert outcome.status == "interrupted" and not np.isnan(read(tmp_path / "parts" / "0")[COLUMNS[0]][0])
    trained(tmp_path / "parts", jobs[2], ckpt_path=tmp_path / "parts" / "0" / results.CHECKPOINT)
    assert contents(tmp_path / "parts" / "0") == contents(tmp_path / "alone_2" / "0")


@pytest.mark.parametrize("dynamics", ["lr=adaptive", "lr=flow", "optimizer=momentum"])
def test_without_a_constant_step_of_descent_there_is_no_edge(tmp_path, dynamics):
    trained(tmp_path, with_rows(3, "depth='2'", dynamics, "max_iterations=300"))
    trace = read(tmp_path / "0")
    assert trace[COLUMNS[0]].is_not_nan().sum() >= 2 and trace[COLUMNS[1]].is_nan().all()


def refused(*job):
    run, _ = composed("logger=none", *job)
    with pytest.raises(ConfigError) as error:
        EnsembleModule(Ensemble.of([run]))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("rows", ["0", "-1", "true"])
def test_rows_that_make_no_sense_are_refused(rows):
    assert f"rows: {rows.replace('true', 'True')} is not allowed; expected an integer" in refused(*with_rows(rows))


OWN = '''
import torch
from rankward.factorizations import LinearFactorization
from rankward.metrics import FrobeniusNorm


class Once(torch.autograd.Function):
    """The identity, whose derivative has none."""

    @staticmethod
    def forward(ctx, array):
        return array.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return gradient.clone()


class OfOneDerivative(LinearFactorization):
    def product(self, factors):
        return Once.apply(factors[0]) ** 2


class Sometimes(FrobeniusNorm):
    rows = 2
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "some_rows_own.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("some_rows_own", None)


def test_metrics_that_fail_or_fill_one_column_are_refused_before_training(own):
    linear = ["factorization=linear", "factorization._target_=some_rows_own.OfOneDerivative"]
    said = refused(*linear, "engine=reference", "metrics=sharpness")
    assert said.startswith("metrics.columns.sharpness: ") and "metrics.columns.sharpness=null leaves it out" in said
    said = refused(*RUN, "+metrics.columns.again={_target_: some_rows_own.Sometimes}")
    assert "another metric already fills column 'norm/frobenius'" in said
    said = refused(*RUN, "metrics=sharpness", "+metrics.columns.again={_target_: rankward.metrics.Sharpness, rows: 3}")
    assert "another metric already fills column 'curvature/sharpness'" in said
