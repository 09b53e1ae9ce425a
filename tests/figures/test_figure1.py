"""Figure 1 from result files: real runs, gaps, and the same bytes twice."""

import shutil

import numpy as np
import polars as pl
import pytest
from omegaconf import OmegaConf

from helpers.drawn import assert_legends_are_clear, drawn, legends
from helpers.in_process import rankward
from rankward import results
from rankward.config import ConfigError
from rankward.figures import _runs, draw, names
from rankward.theory import robustness_bound


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """The experiment itself, coarse: its learning rate and start are larger."""
    folder = tmp_path_factory.mktemp("sweep")
    coarse = ["lr.eta=0.05", "init.scale=1e-3", "stop_loss=1e-3", "logger=none", "hydra.sweep.dir=sweep"]
    done = rankward("-m", "experiment=figure1", *coarse, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "figures/figure1.png" in done.stdout
    return folder / "sweep"


def test_drawing_twice_gives_the_same_bytes(sweep):
    first = [path.read_bytes() for path in draw("figure1", sweep)]
    assert first == [path.read_bytes() for path in draw("figure1", sweep)]
    assert first[0].startswith(b"\x89PNG") and b"<svg" in first[1]
    svg = first[1].decode()  # text is drawn as paths, and stands beside them in comments
    for text in ("depth 2", "depth 3", "depth 4", "lr: 5e-2, init: 1e-3 (b)", "the least that the determinant"):
        assert text in svg


def test_curves_are_read_from_the_traces(sweep):
    folder = results.run_folders(sweep)[1]
    curve, trace = _runs.curve_of(folder.name, _runs.read(folder)), results.read_trace(folder)
    np.testing.assert_array_equal(curve.entry[-1], abs(trace["entry/0_0"][-1]))
    assert curve.depth == 2 and curve.values == (1.0, 1.0, 0.0)


def test_no_run_of_the_forcing_sign_is_below_the_bound(sweep):
    seen = 0
    for folder in results.run_folders(sweep):
        curve = _runs.curve_of(folder.name, _runs.read(folder))
        bound = robustness_bound(curve.loss[curve.forced])
        applies = np.isfinite(bound)
        seen += applies.sum()
        assert (curve.entry[curve.forced][applies] >= bound[applies] * (1 - 1e-9)).all()
    assert seen > 50


def made(folder, product, b=(1.0, 1.0, 0.0), turned=False, loss_scale=1.0, **config):
    """A finished run whose trace is the given product matrices, by hand."""
    values, mask = np.array([[0.0, b[0]], [b[1], b[2]]]), np.array([[False, True], [True, True]])
    if turned:  # unobserved entry at (0, 1): columns swapped
        product, values, mask = product[..., ::-1], values[:, ::-1], mask[:, ::-1]
    loss = 0.5 * (mask * (product - values) ** 2).sum((1, 2))
    trace = {"iteration": 50 * np.arange(len(product)), "loss": loss_scale * loss}
    trace |= {f"entry/{i}_{j}": product[:, i, j] for i in (0, 1) for j in (0, 1)}
    factors = {"observations.mask": mask.copy(), "observations.values": values.copy(), "product": product[-1].copy()}
    results.write_run(folder, trace=trace, factors=factors, summary={"status": config.pop("status", "converged")})
    (folder / ".hydra").mkdir()
    whole = {
        "depth": {"layers": 2},
        "lr": {"eta": 0.1},
        "init": {"name": "gaussian", "scale": 1e-3},
        "seed": 0,
    } | config
    OmegaConf.save(OmegaConf.create(whole), folder / ".hydra" / "config.yaml")
    return _runs.curve_of(folder.name, _runs.read(folder))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("b", [(1.0, 1.0, 0.0), (-2.0, 0.5, 0.1)])
def test_bound_holds_for_the_right_sign_only(tmp_path, b, turned):
    """Random matrices, repositioned and perturbed, with either sign; many with the other sign are below the bound."""
    rng = np.random.default_rng(0)
    product = np.array([[0.0, b[0]], [b[1], b[2]]]) + 0.1 * rng.standard_normal((500, 2, 2))
    product[:, 0, 0] = 40 * rng.standard_normal(500)
    curve = made(tmp_path / "0", product, b, turned)
    below = curve.entry < robustness_bound(curve.loss, *b)
    assert curve.values == b and 50 < curve.forced.sum() < 450
    assert not below[curve.forced].any() and below[~curve.forced].sum() > 20


@pytest.mark.parametrize("loss", [{}, {"name": "squared", "reduction": None}, {"name": "squared", "reduction": "mean"}])
def test_a_mean_is_drawn_at_the_half_sum(tmp_path, loss):
    """The bound depends on the half sum; a factorization whose loss is the mean by default does not write so."""
    product = np.array([[0.0, 1.0], [1.0, 0.0]]) + 0.1 * np.random.default_rng(0).standard_normal((9, 2, 2))
    half_sum = made(tmp_path / "0", product)
    mean = made(tmp_path / "1", product, loss_scale=2 / 3, depth={"layers": 2.5}, **({"loss": loss} if loss else {}))
    np.testing.assert_allclose(mean.loss, half_sum.loss, rtol=1e-12)
    np.testing.assert_allclose(mean.bound(mean.loss), robustness_bound(half_sum.loss), rtol=1e-9)
    assert (mean.depth, mean.panel, half_sum.panel) == (2.5, "depth 2.5", "depth 2")


def test_equal_labels_are_disambiguated(tmp_path):
    product = np.tile(np.eye(2)[::-1] + 0.1, (3, 1, 1))
    for name, seed in (("0", 0), ("1", 1), ("2", 1)):
        made(tmp_path / name, product, seed=seed)
    labels = [c.label for c in _runs.curves(tmp_path)[0]]
    start = "lr: 1e-1, init: 1e-3"
    assert labels == [f"{start}, seed 0", f"{start}, seed 1, run 1", f"{start}, seed 1, run 2"]


def test_diverged_and_torn_runs_are_listed(sweep, tmp_path):
    copy = shutil.copytree(sweep, tmp_path / "copy")
    (copy / "0" / "summary.json").write_text('{"status": "conv')
    (copy / "1" / "summary.json").write_text('{"status": "diverged"}')
    (copy / "2" / "trace.parquet").write_bytes(b"PAR1")
    left_out = _runs.curves(copy)[1]
    assert left_out[:2] == ["0: not finished", "1: diverged"]
    assert left_out[2].startswith("2: cannot read ")
    assert len(draw("figure1", copy)) == 3


def test_runs_that_are_missing_are_left_out(sweep, tmp_path):
    copy = shutil.copytree(sweep, tmp_path / "copy")
    for folder in results.run_folders(copy)[1:]:
        (folder / "summary.json").unlink()
    assert len(draw("figure1", copy)) == 3
    (copy / "0" / "summary.json").unlink()
    with pytest.raises(results.ResultsError, match="no finished"):
        draw("figure1", copy)


def test_unknown_figure_is_refused(tmp_path):
    assert "figure1" in names()
    with pytest.raises(ConfigError, match="did you mean 'figure"):
        draw("figure", tmp_path)


def grown(folder, **config):
    """A run whose unobserved entry grows to 40, of positive determinant, by hand."""
    x = np.geomspace(1e-2, 40, 30)
    w = x / (1 + x)
    return made(folder, np.array([[x, w], [w, 1.1 * w * w / x]]).transpose(2, 0, 1), **config)


@pytest.mark.parametrize(
    ("name", "depths", "runs"),
    [
        ("figure1", (2,), 2),
        ("figure1", (3,), 10),
        ("figure1", (2, 3), 4),
        ("figure1", (2, 3, 4), 10),
        ("figure4", (2, 3), 10),
        ("figure5", (3,), 10),
    ],
)
def test_legends_are_on_the_canvas_and_cover_no_data(tmp_path, monkeypatch, name, depths, runs):
    for depth in depths:
        for number in range(runs):
            config = {"depth": {"layers": depth}, "lr": {"eta": 1.5e-3 / 2**number}, "seed": number // 2}
            grown(tmp_path / f"{depth}{number}", **config)
    for number in range(12):  # which the legend names
        torn = tmp_path / f"torn_depth=3,init=gaussian,seed={number}" / ".hydra"
        torn.mkdir(parents=True)
        (torn / "config.yaml").touch()
    figure = drawn(name, tmp_path, monkeypatch)
    assert_legends_are_clear(figure)
    texts = [text.get_text() for legend in legends(figure) for text in legend.get_texts()]
    left_out = " ".join(f"torn_depth=3,init=gaussian,seed={number}," for number in range(8))
    assert f"left out: {left_out} ..." in [text.replace("\n", " ") for text in texts]
    assert texts[0].startswith("the least that the determinant's sign allows")
    assert ("and 2 more" in texts) == (runs == 10)


def test_legend_of_larger_matrices_does_not_call_the_bound_sharp(tmp_path, monkeypatch):
    """Theorem 2's bound is sharp, Appendix E's is not."""
    values, mask = np.eye(3), np.ones((3, 3), bool)
    values[:2, :2], mask[0, 0] = [[0, 1], [1, 0]], False
    folder = tmp_path / "0"
    trace = {"iteration": np.arange(3), "loss": np.array([1.0, 0.1, 0.01]), "entry/0_0": np.array([0.1, 1.0, 9.0])}
    trace |= {"determinant/sign": np.ones(3)}
    arrays = {"observations.mask": mask, "observations.values": values}
    results.write_run(folder, trace=trace, factors=arrays, summary={"status": "converged"})
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "config.yaml").write_text("{depth: {layers: 2}, seed: 0}")
    (key,) = drawn("figure4", tmp_path, monkeypatch).legends
    assert key.get_texts()[0].get_text().startswith("a lower bound from the determinant's sign")


def test_earlier_rounds_of_a_refinement_lie_faintly_behind_the_last(tmp_path, monkeypatch):
    rows = []
    for cell, depth in enumerate((2, 2, 3)):
        for number in range(2 + cell):
            job = len(rows)
            rows.append({"cell": cell, "round": number, "job": job})
            init = {"name": ("gaussian", "balanced", "gaussian")[cell], "scale": 1e-3}
            grown(tmp_path / str(job), depth={"layers": depth}, lr={"eta": 0.1 / 2**number}, init=init)
    pl.DataFrame(rows).write_parquet(tmp_path / "refinement.parquet")
    figure = drawn("figure1_refined", tmp_path, monkeypatch)
    assert_legends_are_clear(figure)
    two, three = figure.axes[:2]
    assert [text.get_text() for text in two.get_legend().get_texts()] == [
        "lr: 5e-2, init: 1e-3", "lr: 2.5e-2, init: 1e-3 (b)"
    ]  # fmt: skip
    assert [text.get_text() for text in three.get_legend().get_texts()] == ["lr: 1.25e-2, init: 1e-3"]
    for axis, faint, strong in ((two, 2, 2), (three, 1, 1)):  # the last two rounds of each cell
        behind = [line for line in axis.lines if line.get_alpha() is not None]
        curves = [line for line in axis.lines if line.get_alpha() is None and line.get_linestyle() == "-"]
        assert (len(behind), len(curves), len(axis.collections) - 1) == (faint, strong, strong)  # a shade, and markers
        assert max(line.get_zorder() for line in behind) < min(line.get_zorder() for line in curves)
    assert "the round before" in [text.get_text() for text in figure.legends[0].get_texts()]
