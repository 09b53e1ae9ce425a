"""Figures 4 and 5, descent beside flow, departures and rivals: every experiment in small, by the real command line."""

import numpy as np
import polars as pl
import pytest
from benchmarks.departure import implicit

from helpers.drawn import assert_legends_are_clear, drawn
from helpers.in_process import rankward
from rankward import results
from rankward.figures import _runs, conjectures, departure, descent_to_flow, draw, solution_set


def swept(folder, *arguments):
    done = rankward("-m", *arguments, "logger=none", f"hydra.sweep.dir={folder}/s", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "HYDRA]" not in done.stdout  # libraries keep to themselves what they do to draw a picture
    return folder / "s", done.stdout


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    coarse = ["lr.eta=0.02", "init.scale=1e-2", "stop_loss=1e-2"]
    return swept(tmp_path_factory.mktemp("larger"), "experiment=figure4", *coarse)[0]


def depth_is(method):
    return pl.col("depth.layers") == int(method.removeprefix("depth "))


@pytest.mark.slow
def test_figure_4_has_a_panel_for_each_size_and_depth(larger):
    shown, left_out = _runs.curves(larger)
    assert len(shown) == 18 and not left_out
    assert {(c.dims, c.depth) for c in shown} == {(d, n) for d in ((3, 3), (5, 5), (4, 6)) for n in (2, 3, 4)}
    for c in shown:
        bound = c.bound(c.loss)
        if c.dims == (4, 6):
            assert not c.forced.any() and np.isnan(bound).all()
            continue
        root = np.sqrt(2 * c.loss)
        total = root + root**2 / (2 * (1 - root))  # of the 2x2 Schur complement's error
        expected = (1 - total) ** 2 / total - (total - root)
        np.testing.assert_allclose(
            bound, np.where((root < 1) & (total < 1) & (expected > 0), expected, np.nan), rtol=1e-12
        )
        assert (
            np.isnan(c.bound(np.array([c.largest_loss * 1.01]))[0])
            and c.bound(np.array([c.largest_loss * 0.99]))[0] >= 0
        )
        said = c.forced & ~np.isnan(bound)
        assert (c.entry[said] >= bound[said]).all()
    svg = (larger / "figures" / "figure4.svg").read_text()
    assert all(f"{size}, depth {depth}" in svg for size in ("3x3", "5x5", "4x6") for depth in (2, 3, 4))


@pytest.mark.slow
def test_verdicts_reach_the_table(larger):
    runs = pl.read_parquet(larger / "runs.parquet")
    verdicts = runs["certificates.theorem_2/entry/0_0.verdict"].drop_nulls()
    assert set(verdicts) <= {"holds", "not applicable"} and "holds" in set(verdicts)
    assert (
        runs["certificates.theorem_2.premise"].drop_nulls() == "a square matrix: a 4x6 one has no determinant"
    ).all()


@pytest.mark.slow
def test_figure_5_has_a_panel_for_each_place(tmp_path):
    sweep, _ = swept(tmp_path, "experiment=figure5", "lr.eta=0.02", "init.scale=1e-2", "stop_loss=1e-2")
    shown, left_out = _runs.curves(sweep)
    assert len(shown) == 20 and not left_out
    assert {c.unobserved for c in shown} == {(i, j) for i in (0, 1) for j in (0, 1)}
    assert {c.values for c in shown} == {(-2.0, 0.5, b) for b in (0.0, 0.01, 0.05, 0.1, 0.5)}
    for c in shown:
        assert c.forced[0]  # the start has the sign that forces the bound, wherever the entry is
        bound = c.bound(c.loss)
        said = c.forced & ~np.isnan(bound)
        assert (c.entry[said] >= bound[said] * (1 - 1e-9)).all()
    svg = (sweep / "figures" / "figure5.svg").read_text()
    assert all(f"unobserved entry ({i},{j})" in svg for i in (1, 2) for j in (1, 2)) and "b_22: 0.05" in svg


@pytest.mark.slow
def test_descent_comes_to_the_flow_in_proportion_to_its_step(tmp_path):
    grids = "[{lr: [flow], lr.rtol: [1e-12]}, {lr.eta: [4e-2, 2e-2, 1e-2, 5e-3, 2.5e-3]}]"
    sweep, printed = swept(
        tmp_path, "experiment=descent_to_flow", "depth=3", "stop_loss=1e-1", f"hydra.sweeper.grids={grids}"
    )
    table = descent_to_flow.curves(sweep)
    assert table["eta"].to_list() == [2.5e-3, 5e-3, 1e-2, 2e-2, 4e-2]
    distances = table["distance"].to_numpy()
    np.testing.assert_allclose(distances[1:] / distances[:-1], 2, rtol=0.1)
    assert "depth 3: descent comes to the flow with order" in printed
    (row,) = descent_to_flow.orders(table).rows(named=True)
    assert row["points"] >= 3 and abs(row["order"] - 1) < 0.05
    assert draw("descent_to_flow", sweep)[0].is_file()


@pytest.fixture(scope="module")
def departures(tmp_path_factory):
    """Flows at three scales, whose seeds are their own, and descents from some of the starts."""
    cells = [(scale, f"range({9 * place},{9 * place + 9})") for place, scale in enumerate(("1e-1", "1e-2", "1e-3"))]
    grids = [
        f"{{depth: [2,3], lr: [flow], init.scale: [{scale}], init.unbalance: [1,0.1], seed: '{seeds}'}}"
        for scale, seeds in cells
    ]
    grids.append("{depth: [2,3], lr.eta: [4e-3], init.scale: [1e-1], init.unbalance: [0.1], seed: 'range(0,9)'}")
    small = ["stop_loss=1e-3", f"hydra.sweeper.grids=[{', '.join(grids)}]"]
    return swept(tmp_path_factory.mktemp("departures"), "experiment=departure", *small)


@pytest.mark.slow
def test_departures_have_a_law_where_the_sign_turns_on_the_curve(departures):
    sweep, printed = departures
    table = departure.curves(sweep)
    assert len(table) == len(results.run_folders(sweep)) == 3 * 36 + 18
    assert set(table["rate"]) == {"flow", "lr 4e-3"}
    for row in table.rows(named=True):  # both events, from the run's own files, by a loop over its rows
        trace = results.read_trace(sweep / row["run"])
        w = {name: trace[f"entry/{name}"].to_numpy() for name in ("0_0", "0_1", "1_0", "1_1")}
        loss, positive = trace["loss"].to_numpy(), w["0_0"] * w["1_1"] > w["0_1"] * w["1_0"]
        last = max((i for i in range(len(loss)) if positive[i]), default=-1)
        if last == len(loss) - 1:
            assert row["turning"] is None and not row["early"]
        elif row["turning"] < 0.9:  # nearer to the start the product's determinant is lost in rounding
            assert loss[last + 1] <= row["turning"] <= loss[last] and row["early"] == (row["turning"] > 0.5)
        assert row["departure"] is None or row["last_loss"] <= row["departure"] <= 0.5
        if row["departure"] is not None:  # the bound follows from the sign, so the sign turns before
            assert row["turning"] >= row["departure"] * 0.8
    on_curve = table.filter((pl.col("unbalance") == 0.1) & (pl.col("turning") < 0.5) & (pl.col("rate") == "flow"))
    for row in on_curve.filter(pl.col("depth") == 3).rows(named=True)[:6]:  # and by another integrator
        _, loss, _ = implicit(int(row["depth"]), row["scale"], row["unbalance"], row["seed"])
        assert row["turning"] == pytest.approx(loss, rel=0.07)  # rows are a tenth of the loss apart
    parts = {(depth, share): part for depth, share, part in departure.parts(table)}
    assert set(parts) == {(depth, share) for depth in (2, 3) for share in (1.0, 0.1, None)}
    assert not departure.by_the_sign(parts[2, 1.0]) and departure.by_the_sign(parts[3, 0.1])
    law = departure.law(parts[3, 0.1], "turning")
    assert law.interval[0] < law.slope < law.interval[1] and 0.3 < law.slope < 1.2
    assert "depth 3, unbalance 0.1: the sign turns in" in printed and "(0.60 by scaling)" in printed
    assert "depth 2, all shares:" in printed and "depth 3: lr 4e-3 leaves the bound within a factor 1.0" in printed
    for depth, rate, gaps, alone in departure.rates(table):
        assert (depth in (2, 3), rate, alone) == (True, "lr 4e-3", 0) and 7 <= len(gaps) <= 9
    assert draw("departure", sweep)[0].is_file()


@pytest.mark.slow
def test_conjecture_1_in_small(tmp_path, monkeypatch):
    small = [
        "observations.dims=[12,12]",
        "observations.rank=1",
        "observations.count=60,100",
        "depth=2,3",
        "lr.eta=0.01",
    ]
    sweep, _ = swept(tmp_path, "experiment=conjectures", *small, "seed,observations.seed=[0,0],[1,1]")
    table, runs = conjectures.curves(sweep), results.gather(sweep)
    assert table["method"].unique(maintain_order=True).to_list() == ["depth 2", "depth 3", conjectures.LEAST]
    assert set(table["trials"]) == {2}
    for row in table.filter(pl.col("method") != conjectures.LEAST).rows(named=True):
        own = runs.filter(depth_is(row["method"]) & (pl.col("observations.count") == row["observations"]))
        assert row["converged"] == own["status"].to_list().count("converged")
    assert (runs["ratio/nuclear_norm_to_nuclear"] > 0.99).all()  # nothing that fits the observations has less
    for row in runs.rows(named=True):
        arrays = results.read_arrays(sweep / row["run"])
        least = np.linalg.norm(arrays["product"], "nuc") / row["ratio/nuclear_norm_to_nuclear"]
        assert least <= np.linalg.norm(arrays["ground_truth"], "nuc") * (1 + 1e-6)
        zeros = np.linalg.norm(arrays["product"] - arrays["observations.values"])
        assert row["distance/frobenius_solution"] == pytest.approx(zeros, rel=1e-9)
    assert (sweep / "figures" / "conjectures.png").is_file()
    assert_legends_are_clear(drawn("conjectures", sweep, monkeypatch))


def test_figures_without_data_are_refused(tmp_path):
    sweep, _ = swept(tmp_path, "max_iterations=100", "seed=0,1")
    for name in ("conjectures", "descent_to_flow"):
        with pytest.raises(results.ResultsError, match=f"cannot draw {name}"):
            draw(name, sweep)


@pytest.mark.slow
def test_norms_and_ranks_along_the_solution_set(tmp_path, monkeypatch):
    sweep, _ = swept(
        tmp_path, "init=balanced", "init.scale=1e-1", "stop_loss=1e-2", "seed=0,1", "figures=[solution_set]"
    )
    table = solution_set.curves(sweep)
    entry, norms = table["entry"].to_numpy(), [n for n in table.columns if n.endswith("norm")]
    assert len(norms) == 4 and (np.diff(entry) > 0).all() and entry[0] == -entry[-1]
    np.testing.assert_allclose(table["nuclear norm"], np.sqrt(entry**2 + 4) / 2, rtol=2e-4)
    for name in norms:  # the contradiction: norms are least where ranks are greatest
        assert abs(entry[table[name].arg_min()]) < 1e-9 and table[name].min() == pytest.approx(1, abs=2e-4)
    assert abs(entry[table["effective rank"].arg_max()]) < 1e-9
    assert table["effective rank"][-1] < 1.01 and table["distance from the infimal rank"][-1] < 0.02
    assert (sweep / "figures" / "solution_set.png").is_file()
    assert_legends_are_clear(drawn("solution_set", sweep, monkeypatch))
    with pytest.raises(results.ResultsError, match="one entry unobserved"):
        draw("solution_set", tmp_path)
