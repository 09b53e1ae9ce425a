"""All metrics together: shared work, the same bits in any company, torchmetrics' own contract."""

import pytest
import torch
from hydra.utils import get_class
from omegaconf import OmegaConf

from rankward.config import CONFIG_FOLDER
from rankward.metrics import EffectiveRank, NuclearNorm, ProductEntries, ReconstructionError, SchattenNorm, measure
from rankward.metrics import functional as F
from rankward.metrics.base import TraceMetric
from rankward.metrics.measure import MetricError


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
    whole = measure(metrics, everything, ground_truth=truth)
    assert "error/reconstruction" in whole
    for count in (1, 2, 7, 33, 200):
        at = torch.randperm(rows, generator=torch.Generator().manual_seed(count))[:count]
        part = measure(metrics, [f[at] for f in everything], ground_truth=truth[at])
        for name, column in whole.items():
            assert torch.equal(part[name].nan_to_num(-7), column[at].nan_to_num(-7)), name


def test_columns_are_those_of_the_functions():
    made = factors(50)
    product = F.product_matrix(made)
    columns = measure(configured(), made)
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
    assert metric.compute().tolist() == [2, 2, 2, 4, 4]
    metric.reset()
    metric.update(torch.zeros(1, 4, 2, 2))
    assert metric.columns()["norm/nuclear"].shape == (1, 4)


def test_a_single_row_keeps_its_axis():
    assert measure({"e": EffectiveRank(), "s": SchattenNorm(p=[1, 2])}, factors(1))["norm/schatten_2"].shape == (1,)


def test_entries_of_a_large_product_are_its_corner():
    metric = ProductEntries(largest=6)
    metric.update(torch.zeros(1, 10, 10))
    assert len(metric.columns()) <= 6 and "entry/0_0" in metric.columns()


def test_a_metric_that_asks_for_what_is_not_there_is_told():
    class Needy(TraceMetric):
        def update(self, temperature):
            self.measured.append(temperature)

        def columns(self):
            return {}

    with pytest.raises(TypeError, match=r"metrics\.columns\.needy.*temperature"):
        measure({"needy": Needy()}, factors(2))


def test_reconstruction_needs_no_ground_truth():
    assert measure({"r": ReconstructionError()}, factors(3), ground_truth=None) == {}


def test_no_rows_at_all():
    assert measure({"n": NuclearNorm()}, [f[:0] for f in factors(2)])["norm/nuclear"].shape == (0,)


def test_two_metrics_cannot_fill_one_column():
    with pytest.raises(ValueError, match=r"metrics\.columns\.b: column 'norm/nuclear'"):
        measure({"a": NuclearNorm(), "b": NuclearNorm()}, factors(2))


def test_columns_do_not_depend_on_values():
    bad = [f * float("nan") for f in factors(3)]
    assert measure(configured(), bad).keys() == measure(configured(), factors(3)).keys()


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
