"""Metrics of an ensemble: tried before training, switched off, and given what they need run by run."""

import sys

import numpy as np
import pytest

from helpers.runs import composed, contents, trained
from rankward import results
from rankward.config import ConfigError
from rankward.training.ensemble import Ensemble
from rankward.training.module import EnsembleModule
from rankward.training.preflight import check

MINE = '''
import torch
from rankward.factorizations import Factorization
from rankward.metrics import TraceMetric


class Diagonal(Factorization):
    """diag(u * u - v * v), with vectors for factors."""

    def __init__(self, dims):
        self.dims = tuple(dims)

    @property
    def shapes(self):
        return [(self.dims[0],), (self.dims[0],)]

    def start(self, init, seed):
        return [torch.full((self.dims[0],), value, dtype=torch.float64) for value in (0.5, 0.25)]

    def product(self, factors):
        u, v = factors
        return torch.diag_embed(u * u - v * v)


class OfMatrices(TraceMetric):
    def update(self, factors):
        self.measured.append((factors[1] @ factors[0])[..., 0, 0])

    def columns(self):
        return {"mine/corner": self.gathered()}


class OfLosses(OfMatrices):
    last_row_only = True

    def update(self, loss):
        self.measured.append(loss)


class TwoColumnsOfOne(OfMatrices):
    def update(self, product):
        self.measured.append(product[:, 0])


class Seen(OfMatrices):
    """Refuses another start than diag(0.1875) of loss 1.017578125: it is the true one that metrics are tried on."""

    def update(self, product, loss, iteration, initial):
        if iteration[0] == 0:
            assert product.shape[1:] == (2, 2) and (product[0].diagonal() == 0.1875).all()
            assert abs(loss[0] - (1 + 1 + 0.1875**2) / 2) < 1e-15 and (initial[0] == 0.5).all()
        self.measured.append(loss)
'''
DIAGONAL = [
    "factorization=linear",
    "factorization._target_=mine.Diagonal",
    "factorization.name=diagonal",
    "max_iterations=200",
]


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("mine", None)  # other tests have files of that name
    yield
    sys.modules.pop("mine", None)


def refused(*overrides):
    """The line with which a run is refused before training, the same by `check` and by training."""
    run, _ = composed("logger=none", *overrides)
    with pytest.raises(ConfigError) as error:
        check(run)
    with pytest.raises(ConfigError) as again:
        EnsembleModule(Ensemble.of([run]))
    assert str(again.value) == str(error.value) and "\n" not in str(error.value)
    return str(error.value)


def test_vector_factors_train_without_the_columns_of_chains(tmp_path, mine):
    (outcome,) = trained(
        tmp_path,
        [
            *DIAGONAL,
            "+metrics.columns.seen={_target_: mine.Seen}",
        ],
    )
    trace = results.read_trace(tmp_path / "0")
    assert outcome.status == "max_iterations" and "mine/corner" in trace.columns and "norm/nuclear" in trace.columns
    assert not [name for name in trace.columns if name.startswith("balance/")]
    product = results.read_factors(tmp_path / "0")["product"].numpy()
    assert trace["norm/nuclear"][-1] == pytest.approx(np.abs(np.diag(product)).sum())


@pytest.mark.parametrize("components", [True, False])
def test_columns_of_components_are_those_of_cp_factors(tmp_path, components):
    job = ["observations=tensor_order3", "metrics=tensor", "observations.dims=[2,2,2]", "observations.count=6"]
    job += ["factorization=tensor", "factorization.components=2"] if components else ["factorization=linear"]
    trained(tmp_path, [*job, "max_iterations=100"])
    columns = results.read_trace(tmp_path / "0").columns
    assert {name in columns for name in ("cp_weight/0", "cp_weight/1", "balance/drift")} == {components}
    assert "norm/frobenius" in columns


def test_chains_have_their_columns(tmp_path):
    trained(tmp_path, ["depth='2'", "max_iterations=50"])
    assert {"balance/unbalancedness", "balance/drift"} <= set(results.read_trace(tmp_path / "0").columns)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "OfMatrices",
            "expected a metric that can measure this run's start (column 'mine/corner' has 1 values for 2 rows)",
        ),
        ("OfLosses", "expected a metric that can measure this run's start (needs 'loss'; this run offers factors"),
        (
            "TwoColumnsOfOne",
            "start (column 'mine/corner' has shape [2, 2] for 2 rows); metrics.columns.own=null leaves it out",
        ),
    ],
)
def test_metric_that_fails_on_initial_factors_is_refused(mine, name, words):
    line = refused(*DIAGONAL, f"+metrics.columns.own={{_target_: mine.{name}}}")
    assert line.startswith(f"metrics.columns.own: 'mine.{name}' is not allowed; ") and words in line


def test_two_metrics_of_one_column_are_refused_before_training():
    line = refused("+metrics.columns.again={_target_: rankward.metrics.NuclearNorm}")
    assert line.startswith("metrics.columns.again: ") and "another metric already fills column 'norm/nuclear'" in line


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "metrics.columns.nuclear=3",
            "metrics.columns.nuclear: 3 is not allowed; expected a mapping with a `_target_`",
        ),
        ("metrics.certificates.theorem_1=off", "metrics.certificates.theorem_1: "),
        ("+metrics.columns.own={_target_: torchmetrics.MeanMetric}", "expected a rankward.metrics.TraceMetric"),
    ],
)
def test_non_metric_is_refused(override, words):
    assert words in refused(override)


def test_null_disables_a_column_or_a_statement(tmp_path):
    off = ["metrics.columns.schatten=null", "metrics.certificates.theorem_1=null", "max_iterations=50"]
    trained(tmp_path, off, [*off, "metrics.columns.frobenius={_target_: rankward.metrics.FrobeniusNorm}"])
    columns, summary = results.read_trace(tmp_path / "0").columns, results.read_summary(tmp_path / "0")
    assert "norm/nuclear" in columns and "norm/schatten_0.5" not in columns
    assert not [name for name in summary["certificates"] if name.startswith("theorem_1")]
    assert [name for name in summary["certificates"] if name.startswith("theorem_2")]


def test_a_column_may_have_any_name_and_a_schatten_norm_one_number(tmp_path):
    trained(tmp_path, ["+metrics.columns.half={_target_: rankward.metrics.SchattenNorm, p: 0.25}", "max_iterations=50"])
    assert "norm/schatten_0.25" in results.read_trace(tmp_path / "0").columns


@pytest.mark.slow
def test_the_distance_is_from_each_runs_own_infimal_rank(tmp_path):
    """Random truths: rank 2 and rank 1 but for one entry, rank 2 in full, and five of nine entries: not known."""
    start = ["depth='2'", "max_iterations=100"]
    truth = "observations=random_matrix", "observations.dims=[3,3]"
    jobs = [
        [*start, *truth, "observations.rank=2", "observations.count=8"],
        [*start, *truth, "observations.rank=1", "observations.count=8"],
        [*start, *truth, "observations.rank=2", "observations.count=9"],
        [*start, *truth, "observations.rank=1", "observations.count=5"],
        [*start, *truth, "observations.rank=1", "observations.count=5", "metrics.columns.infimal_rank.rank=1"],
    ]
    trained(tmp_path / "together", *jobs[:4])
    trained(tmp_path / "given", jobs[4])
    for number, rank in enumerate([2, 1, 2, None]):
        folder = tmp_path / "together" / str(number)
        found = results.read_trace(folder)["rank/distance_to_infimal"][-1]
        notes = results.read_summary(folder)["notes"]
        if rank is None:
            assert np.isnan(found)
            assert notes["rank/distance_to_infimal"] == (
                "NaN: the infimal rank of the solutions has no closed form here (4 unobserved entries); where you know "
                "it, metrics.columns.infimal_rank.rank=R"
            )
        else:
            sizes = np.linalg.svd(results.read_factors(folder)["product"].numpy(), compute_uv=False)
            assert found == pytest.approx(np.linalg.norm(sizes[rank:]), rel=1e-6, abs=1e-14) and not notes
        trained(tmp_path / "alone" / str(number), jobs[number])
        assert contents(tmp_path / "alone" / str(number) / "0") == contents(folder)
    assert results.read_trace(tmp_path / "given" / "0")["rank/distance_to_infimal"].is_finite().all()
    assert not results.read_summary(tmp_path / "given" / "0")["notes"]


@pytest.mark.parametrize("kind", ["matrix", "tensor"])
def test_the_reconstruction_error_is_a_distance_for_matrices_and_tensors(tmp_path, kind):
    """The truth of a matrix has norm 3 (root-mean-square 1, 3x3), that of a tensor norm 1."""
    job = {
        "matrix": ["depth='2'", "observations=random_matrix", "observations.dims=[3,3]", "observations.count=8"],
        "tensor": [
            "factorization=tensor", "observations=tensor_order3", "metrics=tensor", "observations.dims=[2,2,2]",
            "observations.count=6", "factorization.components=2",
        ],
    }[kind]  # fmt: skip
    trained(tmp_path, [*job, "max_iterations=100"])
    trace, factors = results.read_trace(tmp_path / "0"), results.read_factors(tmp_path / "0")
    product, truth = factors["product"].numpy(), factors["ground_truth"].numpy()
    size = {"matrix": 3, "tensor": 1}[kind]
    assert np.linalg.norm(truth) == pytest.approx(size)
    assert trace["error/reconstruction"][-1] == pytest.approx(np.linalg.norm(product - truth), rel=1e-12)
    assert trace["error/reconstruction_relative"][-1] == pytest.approx(
        np.linalg.norm(product - truth) / size, rel=1e-12
    )


def test_runs_with_and_without_a_ground_truth_train_apart(tmp_path):
    """Together they would leave no error at all."""
    with pytest.raises(ConfigError, match="ground truth"):
        trained(
            tmp_path,
            ["observations=random_matrix", "observations.dims=[2,2]", "observations.rank=1", "observations.count=3"],
            [],
        )
