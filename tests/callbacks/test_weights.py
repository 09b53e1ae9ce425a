"""Metrics of weights against NumPy's SVD of the matrices that the docstrings name."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from rankward import metrics
from rankward.callbacks import FeatureMetrics, MapRank, WeightMetrics
from rankward.callbacks.spectra import spectrum
from rankward.metrics import EffectiveRank, NuclearNorm, NumericalRank, SingularValues, StableRank


def oracle(matrix):
    """Effective and stable rank and nuclear norm, by NumPy in float64."""
    sizes = np.linalg.svd(np.asarray(matrix.detach(), dtype=np.float64), compute_uv=False)
    shares = sizes[sizes > 1e-14 * sizes[0]] / sizes.sum()
    return [np.exp(-(shares * np.log(shares)).sum()), (sizes**2).sum() / sizes[0] ** 2, sizes.sum()]


def check(model, expected, **arguments):
    """The columns of a model are those of the expected matrices, and no others."""
    columns = WeightMetrics([EffectiveRank(), StableRank(), NuclearNorm()], **arguments).columns(model)
    names = ("rank/effective", "rank/stable", "norm/nuclear")
    assert set(columns) == {f"{name}/{column}" for name in expected for column in names}
    for name, matrix in expected.items():
        measured = [columns[f"{name}/{column}"].item() for column in names]
        np.testing.assert_allclose(measured, oracle(matrix), rtol=1e-9, err_msg=name)


def test_layers_are_measured_as_matrices():
    torch.manual_seed(0)
    model = nn.ModuleDict({
        "embed": nn.Embedding(30, 4), "conv": nn.Conv2d(3, 5, 3), "up": nn.ConvTranspose1d(3, 4, 2),
        "norm": nn.BatchNorm2d(5), "net": nn.Sequential(nn.Linear(7, 6), nn.Linear(6, 2, bias=False)),
    })  # fmt: skip
    conv, up = model["conv"].weight, model["up"].weight
    matrices = {f"{name}.weight": model.get_submodule(name).weight for name in ("embed", "net.0", "net.1")}
    check(model, matrices | {"conv.weight": conv.reshape(5, 27), "up.weight": up.transpose(0, 1).reshape(4, 6)})
    both = {"conv.weight": conv.transpose(0, 1).reshape(3, 45), "up.weight": up.reshape(3, 8)}
    check(model, both, layers=["conv.*", "up.weight"], flatten="in,rest")


@pytest.mark.parametrize("arguments", [{}, {"kdim": 5, "vdim": 7}])
def test_heads_of_attention_and_their_products(arguments):
    torch.manual_seed(0)
    model = nn.ModuleDict({"attn": nn.MultiheadAttention(6, 3, **arguments).double()})
    attn = model["attn"]
    separate = [attn.q_proj_weight, attn.k_proj_weight, attn.v_proj_weight]
    q, k, v = separate if arguments else attn.in_proj_weight.chunk(3)
    o, expected = attn.out_proj.weight, {}
    for h in range(3):
        rows = slice(2 * h, 2 * h + 2)
        parts = {"q": q[rows], "k": k[rows], "v": v[rows], "o": o[:, rows]}
        parts |= {"qk": q[rows].T @ k[rows], "ov": o[:, rows] @ v[rows]}
        expected |= {f"attn.head_{h}.{part}": matrix for part, matrix in parts.items()}
    check(model, expected, layers=None, attention="*")
    check(model, {"attn.q_proj_weight": q, "attn.k_proj_weight": k, "attn.v_proj_weight": v}, layers="*_proj_weight")
    rows = WeightMetrics([SingularValues()], layers=None, attention="attn").columns(model)
    assert rows["attn.head_0.qk/singular_value/1"] > 0 == rows["attn.head_0.qk/singular_value/2"]  # rank 2, exactly


def test_products_of_named_parameters():
    torch.manual_seed(0)
    layer = nn.Linear(8, 9).double()
    layer.register_parameter("A", nn.Parameter(torch.randn(2, 8, dtype=torch.float64)))
    layer.register_parameter("B", nn.Parameter(torch.randn(9, 2, dtype=torch.float64)))
    products = {"lora": ("layer.B", "layer.A"), "all": ("layer.A", "layer.weight.T", "layer.B")}
    expected = {"lora": layer.B @ layer.A, "all": layer.A @ layer.weight.T @ layer.B}
    check(nn.ModuleDict({"layer": layer}), expected, layers=None, products=products)


def test_equal_shapes_share_one_decomposition(monkeypatch):
    calls, svdvals = [], torch.linalg.svdvals
    monkeypatch.setattr(torch.linalg, "svdvals", lambda matrix: calls.append(len(matrix)) or svdvals(matrix))
    model = nn.Sequential(*(nn.Linear(5, 4) for _ in range(3)), *(nn.Linear(12, 6) for _ in range(2)))
    columns = WeightMetrics([EffectiveRank(), StableRank(), NumericalRank(), NuclearNorm()]).columns(model)
    assert calls == [3, 2] and len(columns) == 20


def test_nan_weights_have_nan_columns():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(9, 3))
    with torch.no_grad():
        model[0].weight[1, 2], model[2].weight[0, 0] = torch.nan, torch.inf
    columns = WeightMetrics([EffectiveRank(), NumericalRank()]).columns(model)
    assert {name for name, value in columns.items() if value.isnan()} == {
        f"{n}.weight/rank/{kind}" for n in (0, 2) for kind in ("effective", "numerical")
    }


def test_the_spectrum_of_products():
    rng = np.random.default_rng(0)
    for shapes in (
        [(7, 7)],
        [(90, 4)],
        [(4, 90)],
        [(1, 5)],
        [(20, 3), (3, 30)],
        [(3, 20), (20, 4)],
        [(9, 2), (2, 3), (3, 9)],
    ):
        factors = [rng.standard_normal((2, *shape)) for shape in shapes]
        made = factors[0]
        for factor in factors[1:]:
            made = made @ factor
        expected = np.linalg.svd(made, compute_uv=False)
        found = spectrum([torch.from_numpy(factor) for factor in factors]).numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13 * expected.max())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": "*.wieght"}, "layers: '*.wieght' matches no weight of two axes or more; there are 0.weight (3 × 4)"),
        ({"layers": "0.bias"}, "layers: '0.bias' matches no weight"),
        ({"attention": "*"}, "attention: '*' matches no torch.nn.MultiheadAttention; there are none"),
        ({"flatten": "in,rest"}, "flatten: 'in,rest' has no effect"),
        ({"flatten": "in"}, "flatten: 'in' is not allowed; expected one of 'out,rest', 'in,rest'"),
        ({"products": {"p": ("0.weight", "0.weight")}}, "0.weight (3 × 4) and 0.weight (3 × 4) have no product"),
        ({"products": {"p": ("0.weight", "1.weight")}}, "products.p: '1.weight' is not a parameter of two axes; there are"),
        ({"every_n_steps": 0}, "every_n_steps: 0 is not allowed"),
        ({"metrics": []}, "metrics: none are given"),
        ({"metrics": [metrics.ReconstructionError()]}, "ReconstructionError: it has no column without ground_truth"),
        ({"metrics": [metrics.GradientAlignment()]}, "GradientAlignment: it needs negative_gradient; 0.weight has product"),
        ({"metrics": [metrics.DistanceToInfimalRank()]}, "DistanceToInfimalRank: rank: the infimal rank"),
        ({"metrics": [metrics.DeterminantSign()]}, "DeterminantSign: it has no column"),
        ({"metrics": [metrics.CPRank()]}, "CPRank: it measures 'tensor'"),
        ({"metrics": [StableRank(), StableRank()]}, "StableRank: another metric already fills column 'rank/stable'"),
    ],
)  # fmt: skip
def test_nothing_is_ignored(arguments, message):
    with pytest.raises((ValueError, TypeError)) as raised:
        WeightMetrics(**{"metrics": [EffectiveRank()], **arguments}).columns(nn.Sequential(nn.Linear(4, 3)))
    assert message in str(raised.value) and "\n" not in str(raised.value)


class Model(pl.LightningModule):
    """A network with dropout, whose random numbers a callback must not use."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(), nn.Linear(8, 2))

    def forward(self, inputs):
        return self.net(inputs)

    def training_step(self, batch, batch_idx):
        return self(batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(model, folder, callbacks, **arguments):
    torch.manual_seed(1)
    data = DataLoader(torch.randn(40, 4), batch_size=8)
    trainer = pl.Trainer(
        max_epochs=2, log_every_n_steps=3, accelerator="cpu", logger=pl.loggers.CSVLogger(folder), callbacks=callbacks, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, **arguments,
    )  # fmt: skip
    trainer.fit(model, data)
    return trainer


def test_values_are_logged_at_their_steps_and_training_keeps_its_bits(tmp_path):
    torch.manual_seed(0)
    model = Model()
    alone = Model()
    alone.load_state_dict(model.state_dict())
    first = oracle(model.net[0].weight)[0]
    probe = torch.randn(16, 4)
    callbacks = [
        WeightMetrics([EffectiveRank()], layers="net.*.weight", every_n_steps=4),
        FeatureMetrics([EffectiveRank()], probe, layers="net.2", every_n_steps=4),
        MapRank((torch.randn(3, 2), torch.randn(5, 2)), every_n_steps=4),
    ]
    trainer = fit(model, tmp_path / "with", callbacks)
    fit(alone, tmp_path / "without", [])
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), alone.state_dict().values(), strict=True))
    (file,) = (tmp_path / "with").rglob("metrics.csv")
    rows = [row for row in csv.DictReader(file.open(encoding="utf-8")) if row["net.0.weight/rank/effective"]]
    assert [int(row["step"]) for row in rows] == [0, 4, 8, 10]
    measured = [float(row["net.0.weight/rank/effective"]) for row in rows]
    np.testing.assert_allclose([measured[0], measured[-1]], [first, oracle(model.net[0].weight)[0]], rtol=1e-6)
    names = {"net.0.weight/rank/effective", "net.2/rank/effective", "map/rank/effective_0", "map/rank/multilinear_2"}
    assert names <= set(trainer.callback_metrics)


@pytest.mark.slow
def test_a_compiled_model_has_the_same_columns(tmp_path):
    torch.manual_seed(0)
    model = Model()
    plain = Model()
    plain.load_state_dict(model.state_dict())
    model.net = torch.compile(model.net, backend="eager")  # needs no C++ compiler
    made = [
        [
            WeightMetrics([EffectiveRank()], every_n_steps=4),
            FeatureMetrics([EffectiveRank()], torch.ones(3, 4), "net.2"),
        ]
        for _ in range(2)
    ]
    fit(model, tmp_path / "compiled", made[0])
    fit(plain, tmp_path / "plain", made[1])
    for compiled, eager in zip(*made, strict=True):
        assert compiled.values.keys() == eager.values.keys()
        np.testing.assert_allclose(list(compiled.values.values()), list(eager.values.values()), rtol=1e-4)


TWO_PROCESSES = """
import sys, torch, pytorch_lightning as pl
sys.path.insert(0, {tests!r})
from callbacks.test_weights import Model, WeightMetrics, FeatureMetrics, EffectiveRank, fit
pl.seed_everything(0)
callbacks = [WeightMetrics([EffectiveRank()], every_n_steps=2), FeatureMetrics([EffectiveRank()], torch.ones(3, 4).cumsum(0), "net.2")]
trainer = fit(Model(), "logs", callbacks, strategy="ddp", devices=2)
assert callbacks[1].values  # running statistics of a normalization differ between processes
open(f"rank{{trainer.global_rank}}", "w", encoding="utf-8").write(f"{{trainer.world_size}} {{callbacks[0].values}}")
"""


@pytest.mark.slow
def test_two_processes_measure_the_same_weights(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(TWO_PROCESSES.format(tests=str(Path(__file__).parents[1])), encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = ((tmp_path / f"rank{rank}").read_text(encoding="utf-8") for rank in range(2))
    assert first == second and first.startswith("2 {'net.0.weight/rank/effective'")
    (file,) = (tmp_path / "logs").rglob("metrics.csv")  # one process logs
    rows = [row for row in csv.DictReader(file.open(encoding="utf-8")) if row["net.0.weight/rank/effective"]]
    assert [int(row["step"]) for row in rows] == [0, 2, 4, 6]
