"""The experiments on exact ends and on depths in between, in small: their figures, and what they print."""

import numpy as np
import polars as pl
import pytest

from helpers.drawn import assert_legends_are_clear, drawn
from helpers.in_process import rankward
from rankward import results
from rankward.figures import connectivity, depths, draw, same_norm_other_rank


def swept(folder, *arguments):
    done = rankward("-m", *arguments, f"hydra.sweep.dir={folder}/s", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "s", done.stdout


@pytest.mark.parametrize("name", ["connectivity", "depths", "same_norm_other_rank"])
def test_a_figure_without_runs_is_refused(name, tmp_path):
    with pytest.raises(results.ResultsError, match="cannot (draw|read)"):
        draw(name, tmp_path)


@pytest.mark.slow
def test_depths_2_and_3_end_at_one_norm_with_two_ranks(tmp_path, monkeypatch):
    sweep, printed = swept(tmp_path, "experiment=same_norm_other_rank", "seed=range(0,3)")
    ends = same_norm_other_rank.curves(sweep).group_by("run", maintain_order=True).last()
    np.testing.assert_allclose(ends["norm"], 3, atol=2e-3)
    two, three = (ends.filter(depth=depth)["rank"].to_numpy() for depth in (2, 3))
    assert len(two) == len(three) == 3 and two.min() > 1.5 and np.median(three) < 1.1
    assert "depth 3: 3 runs end at" in printed
    verdicts = results.gather(sweep).sort("depth.layers")["certificates.exact_end.verdict"].to_list()
    assert verdicts == ["holds"] * 3 + ["not applicable"] * 3
    assert_legends_are_clear(drawn("same_norm_other_rank", sweep, monkeypatch))


@pytest.mark.slow
def test_depth_2_follows_rank_or_norm_by_the_graph(tmp_path, monkeypatch):
    shapes = "1110/1100/1011/0111,1100/1100/0011/0011"
    small = ["depth=2", "init.scale=1e-2,1e-5", "observations.rank=1", "seed,observations.seed=[1,1],[2,2]"]
    sweep, printed = swept(tmp_path, "experiment=connectivity", f"observations.pattern={shapes}", *small)
    table = connectivity.runs(sweep).sort("graph", "scale")
    assert table["graph"].to_list() == ["complete bipartite pieces"] * 4 + ["connected"] * 4
    small_starts = table.filter(pl.col("scale") == 1e-5)
    pieces, connected = (small_starts.filter(graph=graph) for graph in small_starts["graph"].unique().sort())
    assert np.abs(pieces["norm"]).max() < 1e-4 and pieces["rank"].min() > 1e-2
    assert (
        connected["rank"].max()
        < 0.5 * table.filter((pl.col("scale") == 1e-2) & (pl.col("graph") == "connected"))["rank"].max()
    )
    runs = pl.read_parquet(sweep / "runs.parquet")
    assert set(runs["rank/least_lower"]) == set(runs["rank/least_upper"]) == {1.0}
    assert "connected, depth 2: 4 runs at scales 0.01, 1e-05" in printed
    assert_legends_are_clear(drawn("connectivity", sweep, monkeypatch))


@pytest.mark.slow
def test_from_depth_2_on_the_entry_grows_and_below_the_flow_ends(tmp_path, monkeypatch):
    sweep, printed = swept(tmp_path, "experiment=depths", "depth.layers=1.7,2,2.5", "seed=0", "stop_loss=1e-2")
    table = depths.curves(sweep)
    at = table.filter(pl.col("loss") == 1e-2)
    assert at["entry"].to_list()[0] is None
    np.testing.assert_allclose(at["entry"][1:], 6.93, atol=0.02)
    assert at["fall"][1] > at["fall"][2] > 10 and "depth 1.7: 1 runs end at losses of" in printed
    assert_legends_are_clear(drawn("depths", sweep, monkeypatch))
