"""Torchmetrics' own contract: collections, copies, states, and `self.log` in a LightningModule."""

import csv
import pickle

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader
from torchmetrics import MetricCollection

from rankward import metrics
from rankward.metrics import (
    CPRank,
    DistanceToInfimalRank,
    DistanceToSolution,
    FrobeniusNorm,
    NuclearNorm,
    ProductEntries,
    SchattenNorm,
    SingularValues,
    SpectralNorm,
    TraceMetric,
)
from rankward.mode_tree import mode_tree

eye = torch.eye(2, dtype=torch.float64)[None]


def of_matrices():
    """Every public metric of matrices, some with arguments that agree on zeros and on matrices of rank 1."""
    return {
        "nuclear": NuclearNorm(), "frobenius": FrobeniusNorm(), "spectral": SpectralNorm(),
        "p_half": SchattenNorm(0.5), "p_third": SchattenNorm(1 / 3), "p_both": SchattenNorm([0.5, 3.0]),
        "effective": metrics.EffectiveRank(), "stable": metrics.StableRank(),
        "numerical": metrics.NumericalRank(), "coarse": metrics.NumericalRank(rtol=0.8),
        "zero": DistanceToInfimalRank(0), "one": DistanceToInfimalRank(1), "own": DistanceToInfimalRank(),
        "completion": metrics.CompletionRank(),
        "all_values": SingularValues(), "largest": SingularValues(1), "of_chain": metrics.ChainSingularValues(), "motion": metrics.SingularValueMotion(),
        "entries": ProductEntries(), "corner": ProductEntries(1),
        "sign": metrics.DeterminantSign(), "resolution": metrics.DeterminantResolution(),
        "balance": metrics.Unbalancedness(), "drift": metrics.ConservedDrift(),
        "error": metrics.ReconstructionError(), "relative": metrics.ReconstructionError(relative=True),
        "size": metrics.ParameterNorm(), "implied": metrics.DepthSchattenNorm(), "sharpness": metrics.Sharpness(),
        "alignment": metrics.GradientAlignment(), "heldout": metrics.HeldOutErrors(),
        "samples": metrics.SampleErrors(), "unclamped": metrics.SampleErrors(clamp=None),
        "nearest": DistanceToSolution("nuclear"), "mine": DistanceToSolution("mine.npy", label="nuclear"),
    }  # fmt: skip


def of_tensors():
    return {
        "norm": metrics.TensorNorm(), "weights": metrics.ComponentNorms(), "heaviest": metrics.ComponentNorms(1),
        "motion": metrics.ComponentMotion(1), "drift": metrics.ComponentDrift(), "multilinear": metrics.MultilinearRank(),
        "coarse": metrics.MultilinearRank(0.9), "effective": metrics.MatricizationEffectiveRank(),
        "cp": CPRank(), "relative": CPRank(1e-2, relative=True),
        "error": metrics.ReconstructionError(), "share": metrics.ReconstructionError(relative=True),
    }  # fmt: skip


def of_vectors():
    return {
        "norms": metrics.VectorNorm([1, 2]), "p_half": metrics.VectorNorm(0.5), "entries": metrics.VectorEntries(),
        "first": metrics.VectorEntries(1), "error": metrics.ReconstructionError(),
    }  # fmt: skip


def of_trees():
    return {
        "norms": metrics.LocalComponentNorms(), "heaviest": metrics.LocalComponentNorms(1),
        "motion": metrics.LocalComponentMotion(2), "drift": metrics.LocalComponentDrift(), "rank": metrics.HierarchicalRank(), "coarse": metrics.HierarchicalRank(0.9),
    }  # fmt: skip


def tree_update(*diagonal):
    factors = [
        eye,
        torch.diag(torch.tensor(diagonal, dtype=torch.float64))[None],
        torch.ones(1, 2, dtype=torch.float64),
    ]
    return {
        "product": factors[0] @ factors[1].mT, "factors": factors, "initial": [f + 1 for f in factors],
        "tree": mode_tree("neighbours", 2), "negative_gradient": lambda w: 1 - w,
    }  # fmt: skip


def vector_update(*entries):
    return {"product": torch.tensor([entries], dtype=torch.float64), "ground_truth": torch.ones(1, len(entries))}


def matrix_update(product):
    """All that metrics of matrices ask for; the solutions are zero and the identity."""
    product = torch.as_tensor(product, dtype=torch.float64)[None]
    factors = [eye, product]
    solutions = {
        "nuclear": {"matrix": 0 * product, "nuclear_norm": torch.ones(1), "effective_rank": torch.ones(1)},
        "mine.npy": {"matrix": eye, "nuclear_norm": torch.full((1,), 2.0), "error": torch.full((1,), 3.0)},
    }
    return {
        "product": product, "factors": factors, "chain": factors, "initial": [eye, 2 * eye], "ground_truth": eye.clone(),
        "completion": dict.fromkeys(("pieces", "complete_bipartite", "lower", "upper"), torch.ones(1)),
        "infimal_rank": torch.ones(1), "singular_values": torch.linalg.svdvals(product), "solutions": solutions,
        "loss_function": lambda w, b: ((w[1] @ w[0] - b) ** 2).sum() / 2, "loss_data": [eye],
        "negative_gradient": lambda w: eye - w,
        "step_size": torch.full((1,), 0.1), "values": eye - 1, "observed": eye > 0, "heldout": (eye == 0).triu(),
    }  # fmt: skip


def tensor_update(weights):
    factors = [
        torch.eye(2, dtype=torch.float64)[None] * torch.tensor(weights),
        *[torch.eye(2, dtype=torch.float64)[None]] * 2,
    ]
    product = torch.einsum("rai,rbi,rci->rabc", *factors)
    return {
        "product": product, "factors": factors, "chain": factors, "initial": [f + 1 for f in factors],
        "ground_truth": torch.ones_like(product), "negative_gradient": lambda w: 1 - w,
    }  # fmt: skip


MATRICES = [np.zeros((2, 2)), np.diag([2.0, 0.0]), np.diag([3.0, 4.0]), np.array([[0.0, 1.0], [1.0, 5.0]])]
WEIGHTS = [[0.0, 0.0], [2.0, 0.0], [3.0, 4.0], [1.0, 0.9]]


@pytest.mark.parametrize(
    ("made", "updates"),
    [
        (of_matrices, [matrix_update(m) for m in MATRICES]),
        (of_tensors, [tensor_update(w) for w in WEIGHTS]),
        (of_vectors, [vector_update(*v) for v in ([0, 0], [0, 2], [3, -4])]),
        (of_trees, [tree_update(*v) for v in ([0, 0], [0, 2], [3, -4], [1, 1.5])]),
    ],
)
@pytest.mark.parametrize("forward", [False, True])
def test_in_a_collection_every_metric_reads_what_it_reads_alone(made, updates, forward):
    """Zeros and rank one first, on which many agree, then matrices on which they differ; a reset, and the same again."""
    together, alone = MetricCollection(made()), made()
    for _ in range(2):
        for update in updates:
            if forward:
                together(**update)
            else:
                together.update(**update)
            for metric in alone.values():
                metric.update(**metric._filter_kwargs(**update))
        for name, value in together.compute().items():
            torch.testing.assert_close(value, alone[name].compute(), rtol=0, atol=0, equal_nan=True)
            columns = together[name].columns()
            assert columns.keys() == alone[name].columns().keys() and columns
            for column, expected in alone[name].columns().items():
                assert torch.equal(columns[column].nan_to_num(-7), expected.nan_to_num(-7)), column
        together.reset()
        for metric in alone.values():
            metric.reset()


def test_every_public_metric_works_in_a_collection():
    made = (of_matrices, of_tensors, of_vectors, of_trees)
    seen = {type(metric) for each in made for metric in each().values()}
    public = {each for name in metrics.__all__ if isinstance(each := getattr(metrics, name), type)}
    assert seen == public - {metrics.SpectralMetric, metrics.TraceMetric}


def test_the_norms_of_diag_3_4_after_zeros():
    """By hand: 7, 5, 4, and 3 from rank 1; as means with the zeros, half of that."""
    norms = MetricCollection([NuclearNorm(), FrobeniusNorm(), SpectralNorm(), DistanceToInfimalRank(1)])
    norms.update(torch.zeros(1, 2, 2))
    norms.update(torch.diag(torch.tensor([3.0, 4.0]))[None])
    assert {name: value.item() for name, value in norms.compute().items()} == {
        "NuclearNorm": 3.5, "FrobeniusNorm": 2.5, "SpectralNorm": 2.0, "DistanceToInfimalRank": 1.5
    }  # fmt: skip
    assert {name: metric.gathered().tolist() for name, metric in norms.items()}["SpectralNorm"] == [0, 4]


def test_only_equal_metrics_share_their_values():
    def merged(*pair):
        both = MetricCollection({"a": pair[0], "b": pair[1]})
        both.update(torch.zeros(1, 2, 2))
        return len(both.compute_groups) == 1

    assert merged(SchattenNorm(p=0.5), SchattenNorm(0.5)) and merged(SingularValues(), SingularValues(largest=10))
    assert not merged(SchattenNorm(0.5), SchattenNorm(0.25)) and not merged(NuclearNorm(), SchattenNorm(1))

    def scaled(by):
        class Corner(TraceMetric):
            def update(self, product):
                self.measured.append(by * product[:, 0, 0])

            def columns(self):
                return {"mine/corner": self.gathered()}

        return Corner()

    assert not merged(scaled(1), scaled(2))  # two classes of one name


class Mine(TraceMetric):
    """As in the README: nothing but a column and `measured`."""

    column = "mine/trace"

    def __init__(self, weight: float, **kwargs) -> None:
        super().__init__(**kwargs)
        self.weight = weight

    def update(self, product):
        self.measured.append(self.weight * product.diagonal(dim1=-2, dim2=-1).sum(-1))


def test_reset_clone_pickle_and_state_dict():
    metric = Mine(2.0)
    metric.update(eye)
    copies = [metric.clone(), pickle.loads(pickle.dumps(metric))]
    metric.update(3 * eye)
    assert metric.gathered().tolist() == [4, 12]
    for copy in copies:
        copy.update(5 * eye)
        assert copy.gathered().tolist() == [4, 20]
    metric.reset()
    assert metric.measured == [] and metric.compute().isnan() and copies[0].gathered().tolist() == [4, 20]
    copies[0].persistent(True)
    other = Mine(weight=2.0)
    other.persistent(True)
    other.load_state_dict(copies[0].state_dict())
    assert other.gathered().tolist() == [4, 20]
    merged = Mine(2.0)
    merged.update(eye)
    merged.merge_state(other)
    assert sorted(merged.gathered().tolist()) == [4, 4, 20]


def test_forward_returns_the_mean_of_a_batch_and_keeps_all():
    metric, values = NuclearNorm(), NuclearNorm(reduce="none")
    batches = [torch.stack([eye[0], 2 * eye[0]]), 6 * eye]
    assert [metric(batch).item() for batch in batches] == [3, 12] and metric.compute().item() == 6
    assert [values(batch).tolist() for batch in batches] == [[2, 4], 12] and values.compute().tolist() == [2, 4, 12]
    with pytest.raises(ValueError, match=r"reduce: 'sum' is not allowed; expected one of mean, none"):
        NuclearNorm(reduce="sum")


def test_a_single_matrix_is_a_batch_of_one():
    """Every metric of matrices reads a matrix, a batch and a batch with more leading axes alike, also twice in a row."""
    matrix = torch.diag(torch.tensor([3.0, 4.0]))
    for metric in (
        SchattenNorm([0.5, 1]),
        SingularValues(),
        ProductEntries(),
        metrics.DeterminantSign(),
        metrics.EffectiveRank(),
    ):
        for batch in (matrix, matrix[None], matrix.repeat(2, 3, 1, 1)):
            metric.reset()
            metric(batch)
            metric(batch)
            assert {len(values) for values in metric.columns().values()} == {2 * batch[..., 0, 0].numel()}
            assert torch.equal(
                metric.columns()[next(iter(metric.columns()))],
                metric.gathered().reshape(len(metric.gathered()), -1)[:, 0],
            )
    vector = metrics.VectorNorm(2)
    assert vector(torch.tensor([3.0, 4.0])).item() == vector(torch.tensor([[3.0, 4.0]])).item() == 5


def test_columns_have_names_without_an_update():
    assert NuclearNorm().columns() == {} == ProductEntries().columns() and NuclearNorm().names(()) == ["norm/nuclear"]
    for metric, shape in (
        (SchattenNorm([0.5, 3]), (2,)),
        (SingularValues(1), (1,)),
        (ProductEntries(), (2, 2)),
        (CPRank(), (3,)),
    ):
        names = metric.names(shape)
        metric.update(torch.ones(1, 2, 2))
        assert list(metric.columns()) == names and len(set(names)) == len(names) > 0

    class Nameless(TraceMetric):
        def update(self, product):
            self.measured.append(product[:, 0, 0])

    nameless = Nameless()
    nameless.update(eye)
    with pytest.raises(NotImplementedError, match="Nameless names no column; give it `column`, `names` or `columns`"):
        nameless.columns()


def test_a_value_has_a_gradient_and_what_is_kept_has_none():
    """The gradient of the nuclear norm of diag(3, -4) is U V^T = diag(1, -1)."""
    weight = torch.nn.Parameter(torch.diag(torch.tensor([3.0, -4.0, 1.0])))
    metric = NuclearNorm()
    for _ in range(3):
        metric(weight).backward()
    torch.testing.assert_close(weight.grad, 3 * torch.diag(torch.tensor([1.0, -1.0, 1.0])))
    metric.update(weight)
    assert not any(values.requires_grad for values in metric.measured) and len(metric.measured) == 4
    assert pickle.loads(pickle.dumps(metric)).compute().item() == metric.clone().compute().item() == 8


@pytest.mark.parametrize("shape", [(1, 2), (2, 2), (5, 2, 2), (3, 2)])
@pytest.mark.parametrize("scale", [1.0, 1e-220])
def test_gradients_are_those_of_lapack(shape, scale):
    """Also for vectors and 2x2 matrices, whose values have a closed form, and where numbers are scaled first."""
    matrix = scale * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def gradient(function):
        weight = matrix.clone().requires_grad_()
        function(weight).backward()
        return scale * weight.grad

    def effective_rank(weight):
        sizes = torch.linalg.svdvals(weight)
        shares = sizes / sizes.sum(-1, keepdim=True)
        return torch.exp(-torch.special.xlogy(shares, shares).sum(-1)).mean()

    torch.testing.assert_close(gradient(NuclearNorm()), gradient(lambda w: torch.linalg.svdvals(w).sum(-1).mean()))
    torch.testing.assert_close(gradient(metrics.EffectiveRank()), gradient(effective_rank), rtol=1e-6, atol=1e-12)
    if len(shape) == 3:
        norms = gradient(metrics.TensorNorm()) / scale
        torch.testing.assert_close(
            norms * len(matrix), matrix / (matrix / scale).flatten(1).norm(dim=1)[:, None, None] / scale
        )


def test_states_that_are_tensors_are_kept_without_a_gradient_too():
    class Counted(NuclearNorm):
        def __init__(self):
            super().__init__()
            self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

        def update(self, product):
            super().update(product)
            self.total = self.total + self.measured[-1].sum()

    metric, weight = Counted(), torch.nn.Parameter(torch.eye(2))
    metric(weight), metric(weight)
    assert metric.total.item() == 4 and not metric.total.requires_grad


def test_equal_singular_values_have_a_gradient():
    weight = torch.nn.Parameter(torch.eye(2))
    NuclearNorm()(weight).backward()
    torch.testing.assert_close(weight.grad, torch.eye(2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: NuclearNorm()(torch.eye(2, dtype=torch.complex64)), TypeError, "product: torch.complex64 is not allowed"),
        (lambda: NuclearNorm()(torch.ones(3)), ValueError, r"product: shape \[3\] is not allowed; expected matrices"),
        (lambda: NuclearNorm()(torch.ones(2, 0, 3)), ValueError, r"product: shape \[2, 0, 3\] is not allowed"),
        (lambda: SchattenNorm(p=[]), ValueError, "p: an empty list is not allowed"),
        (lambda: SchattenNorm(p=True), ValueError, "p: True is not allowed"),
        (lambda: SingularValues(largest=True), ValueError, "largest: True is not allowed"),
        (lambda: CPRank(starts=-1), ValueError, "starts: -1 is not allowed"),
        (lambda: NuclearNorm(foo=1), ValueError, "foo"),
    ],
    ids=["complex", "vector", "empty", "no p", "bool", "largest", "starts", "unknown"],
)  # fmt: skip
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_devices_dtypes_and_a_plot():
    metric = NuclearNorm().to("cpu")
    metric.set_dtype(torch.float32)
    metric.update(eye.half())
    assert metric.compute().dtype == torch.float64 and metric.half().compute().item() == 2
    figure, axes = metric.plot()
    assert axes.get_ylabel() == "NuclearNorm"
    import matplotlib.pyplot as plt

    plt.close(figure)


def _mean_over_processes(rank, port, queue):
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    norm, values = NuclearNorm(), SingularValues(reduce="none")
    for metric in (norm, values):
        metric.update((rank + 1) * torch.eye(2).repeat(rank + 1, 1, 1))  # one matrix here, two there
    queue.put((rank, norm.compute().item(), values.compute().tolist(), values.gathered().tolist()))
    queue.close()
    queue.join_thread()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_compute_over_all_matrices():
    """Identities of size 1 in the first process and two of size 2 in the second: (2 + 4 + 4) / 3."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = torch.multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=_mean_over_processes, args=(rank, port, queue)) for rank in (0, 1)]
    for worker in workers:
        worker.start()
    found = sorted(queue.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join(60)
    for rank, mean, values, own in found:
        assert mean == pytest.approx(10 / 3) and values == [[1, 1], [2, 2], [2, 2]] and len(own) == rank + 1


class Model(pl.LightningModule):
    """Logs a metric object at every step and epoch, by update and by forward, and each column of a metric of several."""

    def __init__(self, matrices):
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.matrices = matrices
        self.norm, self.rank, self.mine, self.norms = (
            NuclearNorm(),
            metrics.EffectiveRank(),
            Mine(1.0),
            SchattenNorm([1, 2]),
        )
        self.together = MetricCollection([FrobeniusNorm(), SpectralNorm()])

    def training_step(self, batch, batch_idx):
        self.norm(batch)
        self.log("norm", self.norm, on_step=True, on_epoch=True)
        self.rank(batch)
        self.log("rank", self.rank)
        self.mine.update(batch)
        self.log("mine", self.mine, on_step=False, on_epoch=True)
        self.together.update(batch)
        self.log_dict(self.together, on_step=False, on_epoch=True)
        self.norms.update(batch)

    def on_train_epoch_end(self):
        self.log_dict({name: values.mean() for name, values in self.norms.columns().items()})
        self.norms.reset()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return None

    def train_dataloader(self):
        return DataLoader(self.matrices, batch_size=3)


def test_self_log_in_a_lightning_module_with_a_logger(tmp_path):
    """Seven matrices in batches of 3, 3 and 1, for three epochs: the means of each epoch, against NumPy's."""
    matrices = torch.from_numpy(np.random.default_rng(0).standard_normal((7, 3, 3)))
    matrices[:3] = 0
    matrices[:3, 0, 0] = 1  # on which all norms agree at first
    logger = pl.loggers.CSVLogger(tmp_path, flush_logs_every_n_steps=1)
    trainer = pl.Trainer(
        max_epochs=3, logger=logger, accelerator="cpu", log_every_n_steps=1, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Model(matrices))
    rows = list(csv.DictReader((tmp_path / "lightning_logs" / "version_0" / "metrics.csv").open()))
    sizes = np.linalg.svd(matrices.numpy(), compute_uv=False)
    shares = sizes / sizes.sum(1, keepdims=True)
    entropies = -np.where(shares > 0, shares * np.log(np.maximum(shares, 1e-300)), 0).sum(1)

    def logged(name):
        return [float(row[name]) for row in rows if row[name]]

    np.testing.assert_allclose(logged("norm_epoch"), [sizes.sum(1).mean()] * 3, rtol=1e-6)
    steps = [sizes.sum(1)[:3].mean(), sizes.sum(1)[3:6].mean(), sizes.sum(1)[6]]
    np.testing.assert_allclose(logged("norm_step"), steps * 3, rtol=1e-6)
    ranks = np.exp(entropies)
    np.testing.assert_allclose(logged("rank"), [ranks[:3].mean(), ranks[3:6].mean(), ranks[6]] * 3, rtol=1e-6)
    np.testing.assert_allclose(logged("mine"), [np.trace(matrices.numpy(), axis1=1, axis2=2).mean()] * 3, rtol=1e-6)
    np.testing.assert_allclose(logged("FrobeniusNorm"), [np.linalg.norm(sizes, axis=1).mean()] * 3, rtol=1e-6)
    np.testing.assert_allclose(logged("SpectralNorm"), [sizes[:, 0].mean()] * 3, rtol=1e-6)
    np.testing.assert_allclose(logged("norm/schatten_1"), [sizes.sum(1).mean()] * 3, rtol=1e-6)
    np.testing.assert_allclose(logged("norm/schatten_2"), [np.linalg.norm(sizes, axis=1).mean()] * 3, rtol=1e-6)
