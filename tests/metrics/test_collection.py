"""All metrics together: shared work, the same bits in any company, torchmetrics' own contract."""

import pytest
import torch
from hydra.utils import get_class
from omegaconf import OmegaConf

from rankward.config import CONFIG_FOLDER
from rankward.metrics import (
    DistanceToInfimalRank,
    EffectiveRank,
    NuclearNorm,
    ProductEntries,
    ReconstructionError,
    SchattenNorm,
    measure,
)
from rankward.metrics import functional as F
from rankward.metrics.base import TraceMetric
from rankward.metrics.collection import MetricError


def configured():
    """Every metric of conf/metrics/matrix.yaml."""
    columns = OmegaConf.load(CONFIG_FOLDER / "metrics" / "matrix.yaml").columns
    return {
        name: get_class(node._target_)(**{k: v for k, v in node.items() if k != "_target_"})
        for name, node in columns.items()
    }


def factors(rows, sizes=(2, 2, 2, 2), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(rows, sizes[i + 1], sizes[i], generator=generator, dtype=torch.float64)
        for i in range(len(sizes) - 1)
    ]


@pytest.mark.parametrize("sizes", [(2, 2, 2, 2), (2, 2), (4, 3, 3), (1, 2, 5), (5, 5, 5), (7, 3, 10)])
def test_bits_do_not_depend_on_the_batch(sizes):
    rows = 100_003 if sizes == (2, 2, 2, 2) else 400
    everything = factors(rows, sizes)
    truth = torch.randn(rows, sizes[-1], sizes[0], dtype=torch.float64)
    metrics = {**configured(), "more": SchattenNorm(p=[0.3, 3])}
    infimal = torch.arange(rows, dtype=torch.float64) % 3
    infimal[::5] = torch.nan
    whole = measure(metrics, everything, ground_truth=truth, infimal_rank=infimal)
    assert "error/reconstruction" in whole
    for count in (1, 2, 7, 33, 200):
        at = torch.randperm(rows, generator=torch.Generator().manual_seed(count))[:count]
        part = measure(metrics, [f[at] for f in everything], ground_truth=truth[at], infimal_rank=infimal[at])
        for name, column in whole.items():
            assert torch.equal(part[name].nan_to_num(-7), column[at].nan_to_num(-7)), name


def test_columns_are_those_of_the_functions():
    made = factors(50)
    product = F.product_matrix(made)
    columns = measure(configured(), made, infimal_rank=torch.ones(50))
    expected = {
        "norm/nuclear": F.nuclear_norm(product),
        "norm/schatten_0.5": F.schatten_norm(product, 0.5),
        "rank/effective": F.effective_rank(product),
        "rank/distance_to_infimal": F.distance_to_infimal_rank(product, 1),
        "singular_value/1": F.singular_values(product)[:, 1],
        "entry/1_0": product[:, 1, 0],
        "determinant/sign": F.determinant_sign(product),
        "balance/unbalancedness": F.unbalancedness(made),
    }
    for name, column in expected.items():
        assert torch.equal(columns[name], column), name
    assert "error/reconstruction" not in columns


def test_a_metric_by_itself_gathers_updates():
    metric = NuclearNorm()
    metric.update(torch.eye(2).repeat(3, 1, 1))
    metric.update(2 * torch.eye(2).repeat(2, 1, 1))
    assert metric.gathered().tolist() == [2, 2, 2, 4, 4] and metric.compute().item() == pytest.approx(14 / 5)
    metric.reset()
    metric.update(torch.zeros(1, 4, 2, 2))
    assert metric.columns()["norm/nuclear"].shape == (4,)  # leading axes become one


def test_a_single_row_keeps_its_axis():
    assert measure({"e": EffectiveRank(), "s": SchattenNorm(p=[1, 2])}, factors(1))["norm/schatten_2"].shape == (1,)


def test_entries_of_a_large_product_are_its_corner():
    metric = ProductEntries(largest=6)
    metric.update(torch.arange(100.0).reshape(1, 10, 10))
    corner = {"entry/0_0": [0], "entry/0_1": [1], "entry/1_0": [10], "entry/1_1": [11]}
    assert {name: values.tolist() for name, values in metric.columns().items()} == corner


def test_metric_with_an_unknown_argument_is_refused():
    class Needy(TraceMetric):
        def update(self, temperature):
            self.measured.append(temperature)

        def columns(self):
            return {}

    with pytest.raises(TypeError, match=r"metrics\.columns\.needy.*temperature"):
        measure({"needy": Needy()}, factors(2))


def test_reconstruction_needs_no_ground_truth():
    assert measure({"r": ReconstructionError()}, factors(3), ground_truth=None) == {}


def test_reconstruction_is_a_distance_and_relative_a_share_of_the_truth():
    """By hand: diag(3, 4) is 5 from zero, 5/2 of a truth of norm 2 (whose distance is another); a zero truth has no share."""
    both = {"r": ReconstructionError(), "s": ReconstructionError(relative=True)}
    made = [torch.diag(torch.tensor([3.0, 4.0])).repeat(3, 1, 1)]
    truth = torch.stack([torch.zeros(2, 2), torch.diag(torch.tensor([3.0, 0.0])), torch.diag(torch.tensor([3.0, 4.0]))])
    columns = measure(both, made, ground_truth=truth)
    assert columns["error/reconstruction"].tolist() == [5, 4, 0]
    assert columns["error/reconstruction_relative"].nan_to_num(-1).tolist() == [-1, pytest.approx(4 / 3), 0]


def test_the_infimal_rank_is_each_runs_own_or_given():
    """diag(3, 2, 1): the tails beyond 0, 1, 2, 3 are sqrt(14), sqrt(5), 1, 0."""
    product = torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)).repeat(5, 1, 1)
    own = torch.tensor([2.0, 0.0, torch.nan, 1.0, 3.0])
    tails = [1, 14**0.5, -1, 5**0.5, 0]
    columns = measure({"d": DistanceToInfimalRank()}, [product], infimal_rank=own)
    assert columns["rank/distance_to_infimal"].nan_to_num(-1).tolist() == pytest.approx(tails)
    given = measure({"d": DistanceToInfimalRank(rank=2)}, [product], infimal_rank=own)
    assert given["rank/distance_to_infimal"].tolist() == [1] * 5
    with pytest.raises(MetricError, match=r"metrics\.columns\.d: ValueError: rank: the infimal rank .* is needed"):
        measure({"d": DistanceToInfimalRank()}, [product])
    with pytest.raises(ValueError, match="rank: -1 is not allowed"):
        DistanceToInfimalRank(rank=-1)


def test_schatten_takes_one_number_or_several():
    values = torch.diag(torch.tensor([4.0, 9.0]))[None]  # (2 + 3)^2
    one, several = SchattenNorm(p=0.5), SchattenNorm(p=[0.5, 1])
    one.update(values)
    several.update(values)
    assert one.columns()["norm/schatten_0.5"].item() == pytest.approx(25)
    assert {k: v.item() for k, v in several.columns().items()} == {
        "norm/schatten_0.5": pytest.approx(25),
        "norm/schatten_1": 13,
    }
    for wrong in (0, [1, -1], float("nan")):
        with pytest.raises(ValueError, match=r"p: .* is not allowed; expected a number in \(0, inf\]"):
            SchattenNorm(p=wrong)


def test_no_rows_at_all():
    assert measure({"n": NuclearNorm()}, [f[:0] for f in factors(2)])["norm/nuclear"].shape == (0,)


def test_two_metrics_cannot_fill_one_column():
    with pytest.raises(ValueError, match=r"metrics\.columns\.b: another metric already fills"):
        measure({"a": NuclearNorm(), "b": NuclearNorm()}, factors(2))


def test_columns_do_not_depend_on_values():
    bad = [f * float("nan") for f in factors(3)]
    unknown = torch.full((3,), torch.nan)
    columns = measure(configured(), bad, infimal_rank=unknown)
    assert columns.keys() == measure(configured(), factors(3), infimal_rank=unknown).keys()


def test_a_metric_that_raises_or_fills_too_few_rows_is_named():
    class Raises(TraceMetric):
        def update(self, product):
            raise KeyError("nothing there")

        def columns(self):
            return {}

    class Short(TraceMetric):
        def update(self, product):
            self.measured.append(product[:1, 0, 0])

        def columns(self):
            return {"mine/short": self.gathered()}

    factors = [torch.ones(3, 2, 2, dtype=torch.float64)] * 2
    with pytest.raises(MetricError, match=r"metrics.columns.mine: KeyError: 'nothing there'"):
        measure({"mine": Raises()}, factors)
    with pytest.raises(MetricError, match=r"metrics.columns.mine: column 'mine/short' has 1 values for 3 rows"):
        measure({"mine": Short()}, factors)
