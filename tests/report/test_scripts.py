"""The report's scripts, run by node on the data of a page: filters, and what the curves and the heat map aggregate."""

import html
import json
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import scipy.stats

import rankward as library
from rankward import results
from rankward.loggers.charts import charts
from rankward.report.collect import collect
from rankward.report.pack import unpack
from rankward.report.page import LIMIT

SEEDS = (68.0, -68.0, 68.4, -68.4)  # last entries of four runs that have grown alike


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Depths 2 and 3 of four seeds. |entry| is |last| * loss^(-1/2) / 100, and its bound is a hundredth less."""
    folder = tmp_path_factory.mktemp("scripts")
    loss = np.geomspace(1, 1e-4, 9)
    for job in range(8):
        depth, last = 2 + job // 4, SEEDS[job % 4]
        size = abs(last) / 100 / np.sqrt(loss)
        trace = {"iteration": np.arange(9), "loss": loss, "entry/0_0": np.sign(last) * size}
        trace |= {"bound/entry/0_0": 0.99 * size, "norm/nuclear": size + 1, "bound/norm/nuclear": size - 2}
        metrics = {"loss": float(loss[-1]), "entry/0_0": last, "norm/nuclear": abs(last) + 1}
        summary = {"status": "converged", "iterations": 8, "metrics": metrics}
        summary["certificates"] = {
            "theorem_1/norm/nuclear": {"verdict": "not applicable", "premise": f"a sign: lost at iteration {job + 2}"},
            "theorem_1/norm/spectral": {"verdict": "not applicable", "premise": f"a sign: lost at iteration {job + 2}"},
            "theorem_2/entry/0_0": {"verdict": "violated" if job < 2 else "holds", "margin": -1.0 if job < 2 else 1.0},
        }
        if job < 2:
            summary["certificates"]["theorem_2/entry/0_0"]["reason"] = "the entry is NaN"
        run = folder / str(job)
        results.write_run(run, trace=trace, factors={"a": np.zeros(1)}, summary=summary)
        (run / ".hydra").mkdir()
        config = f"depth: {{name: '{depth}', layers: {depth}}}\nseed: {job % 4}\ninit: {{name: balanced, scale: 0.1}}\n"
        (run / ".hydra" / "config.yaml").write_text(config)
        (run / ".hydra" / "overrides.yaml").write_text(f"- depth={depth}\n- seed={job % 4}\n")
    return folder


def shown(sweep, tmp_path, *actions):
    """What the views show after each action: a filter, or values of the controls by their ids."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node here")
    header, arrays = unpack(collect(sweep, LIMIT).packed)
    plain = {name: [None if np.isnan(v) else float(v) for v in values] for name, values in arrays.items()}
    page = tmp_path / "page.json"
    page.write_text(json.dumps({"header": header, "arrays": plain, "actions": actions}))
    assets = files("rankward.report").joinpath("assets")
    done = subprocess.run(
        [node, Path(__file__).with_name("page.js"), str(assets), page], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_entries_are_aggregated_by_absolute_value_and_both_are_offered(sweep, tmp_path):
    entry = {"metric": "entry/0_0", "heat-metric": "entry/0_0"}
    signed = {"values-shown": "signed", "heat-values": "signed"}
    absolute, first, linear, norm = shown(
        sweep, tmp_path, entry, signed, {"scale": "linear"}, {"metric": "norm/nuclear", "heat-metric": "norm/nuclear"}
    )
    assert absolute["chart"]["title"] == "|entry/0_0|" and absolute["values"] == absolute["heat-values"] == "absolute"
    assert absolute["heat"].startswith("Last |entry/0_0| of 8 runs")
    assert absolute["heat"].endswith(" 2 68.2 3 68.2")  # at both depths (68 + 68.4) / 2
    lines = [line for line in absolute["chart"]["lines"] if not line["fill"]]
    medians = [line["y"][-1] for line in lines if line["dash"] == "solid"]
    np.testing.assert_allclose(medians, [68.2, 68.2], rtol=1e-6)
    bounds = [line["y"][-1] for line in lines if line["dash"] == "dash"]
    np.testing.assert_allclose(bounds, [0.99 * 68.2] * 2, rtol=1e-6)

    assert first["chart"]["title"] == "entry/0_0" and first["heat"].startswith("Last entry/0_0 of 8 runs")
    assert "values of 0 and below have no place on a logarithmic scale" in first["chart-told"]
    assert all(not line["fill"] and line["dash"] == "solid" for line in first["chart"]["lines"])  # no bound of a sign
    medians = [line["y"] for line in linear["chart"]["lines"] if line["dash"] == "solid"]
    np.testing.assert_allclose(medians, 0, atol=1e-5)  # of 68, -68, 68.4 and -68.4
    assert "whose premises are met by none of these runs" in norm["chart-told"]
    assert norm["chart"]["title"] == "norm/nuclear" and norm["values"] == norm["heat-values"] == "signed"


def test_medians_over_seeds_are_those_of_absolute_values_in_the_table_too(sweep, tmp_path):
    each, medians = shown(sweep, tmp_path, {"sort": ""}, {"rows": "settings", "sort": "entry/0_0", "order": "falling"})
    assert "The last value of each metric, with its sign" in each["runs"]
    assert [line[each["csv"]["table"][0].index("entry/0_0")] for line in each["csv"]["table"][1:5]] == list(SEEDS)
    assert "of entries those of absolute values" in medians["runs"]
    head, *lines = medians["csv"]["table"]
    assert head == ["runs", "depth.name", "status", "iterations", "loss", "|entry/0_0|", "norm/nuclear"]
    assert [line[:3] for line in lines] == [[4, "2", "4 converged"], [4, "3", "4 converged"]]
    assert [line[5] for line in lines] == pytest.approx([68.2, 68.2])


def test_colours_shades_and_panels_are_those_of_keys(sweep, tmp_path):
    view = {"lines": "each", "metric": "entry/0_0"}
    by_two, panels, one = shown(
        sweep,
        tmp_path,
        view | {"colour": "depth.name", "shade": "seed"},
        {"panels": "depth.name"},
        {"panels": "", "colour": "", "shade": ""},
    )
    listed = [line["name"] for line in by_two["chart"]["lines"] if line["listed"]]
    assert sorted(listed) == sorted([f"depth {d}, seed {s}" for d in (2, 3) for s in range(4)] + ["bound"])  # one bound
    measured = [line for line in by_two["chart"]["lines"] if line["dash"] == "solid"]
    assert len(measured) == len({line["colour"] for line in measured}) == 8
    assert "dashed: the theorems' bound, whose premises are met by all of these runs" in by_two["chart-told"]
    assert panels["chart"]["panels"] == ["<b>depth 2</b>", "<b>depth 3</b>"]
    for line in panels["chart"]["lines"]:
        if line["dash"] == "solid":
            assert line["axis"] == ("x" if "depth 2" in line["name"] else "x2")
    assert [line["name"] for line in panels["chart"]["lines"] if line["listed"]] == listed
    assert one["chart"]["panels"] == [] and {line["name"] for line in one["chart"]["lines"]} == {"runs", "bound"}
    assert len(one["csv"]["curves"]) == 1 + 2 * 8 * 9  # eight runs and their bounds, nine points each


def test_a_band_has_a_bound_only_where_all_its_runs_have_one(sweep, tmp_path):
    copy = shutil.copytree(sweep, tmp_path / "partly")
    trace = results.read_trace(copy / "0").with_columns(pl.lit(float("nan")).alias("bound/entry/0_0"))
    results.write_run(
        copy / "0", trace=trace.to_dict(), factors={"a": np.zeros(1)}, summary=results.read_summary(copy / "0")
    )
    (view,) = shown(copy, tmp_path, {"metric": "entry/0_0"})
    assert len([line for line in view["chart"]["lines"] if line["dash"] == "dash"]) == 1
    assert "no bound is drawn of 1 line, as it does not apply to each of the runs" in view["chart-told"]


def test_last_values_are_counted_or_set_against_each_other(sweep, tmp_path):
    count, against, signed = shown(
        sweep,
        tmp_path,
        {"last-x": "norm/nuclear"},
        {"last-x": "loss", "last-y": "entry/0_0"},
        {"last-x": "seed", "last-values": "signed"},
    )
    values = np.abs(SEEDS * 2) + 1
    edges = np.histogram_bin_edges(values, bins=4)  # 2 * 8^(1/3)
    for line, part in zip(count["last"]["lines"], (values[:4], values[4:]), strict=True):
        np.testing.assert_array_equal(line["y"], np.histogram(part, edges)[0])
        np.testing.assert_allclose(line["width"], np.diff(edges))
        np.testing.assert_allclose(line["x"], (edges[1:] + edges[:-1]) / 2)
    assert (count["last"]["x"], count["last"]["title"]) == ("norm/nuclear", "runs")
    assert (against["last"]["x"], against["last"]["title"]) == ("loss", "|entry/0_0|")
    assert "rank correlation NaN" in against["last-told"]  # all losses are equal
    assert signed["last"]["title"] == "entry/0_0"
    expected = scipy.stats.spearmanr(list(range(4)) * 2, SEEDS * 2).statistic
    assert f"rank correlation {expected:.5g}" in signed["last-told"]
    assert [line["y"] for line in signed["last"]["lines"]] == [list(SEEDS)] * 2
    assert (
        signed["csv"]["last"][0] == ["panel", "group", "run", "seed", "entry/0_0"] and len(signed["csv"]["last"]) == 9
    )


def test_certificates_have_their_reasons(sweep, tmp_path):
    (view,) = shown(sweep, tmp_path, {"sort": ""})
    assert (
        view["reasons"]
        == "theorem_1 all runs: needs a sign: lost at iteration 2 to 9 theorem_2 2 runs: the entry is NaN"
    )


LINK = '<a href="https://example.org">&lt;b&gt;</a>'


def linked(sweep, tmp_path):
    """The sweep with a link for the name of an initialisation."""
    copy = shutil.copytree(sweep, tmp_path / "linked")
    for run in copy.iterdir():
        config = run / ".hydra" / "config.yaml"
        if int(run.name) < 4:
            config.write_text(config.read_text().replace("name: balanced", f"name: '{LINK}'"))
    return copy


def test_a_link_in_a_legend_is_text(sweep, tmp_path):
    """Plotly shows the names of lines as HTML: there a text must stand as HTML writes it."""
    (view,) = shown(linked(sweep, tmp_path), tmp_path, {"colour": "init.name"})
    assert {html.unescape(line["name"]) for line in view["chart"]["lines"]} == {
        f"init {LINK}",
        "init balanced",
        "bound",
    }
    assert not any("<" in line["name"] for line in view["chart"]["lines"])


def test_a_bound_that_says_nothing_is_no_bound_of_the_absolute_value(sweep, tmp_path):
    """It is |entry| - 2, which is negative at first: there it is not drawn on a log axis, absolute values or not."""
    view = {"metric": "norm/nuclear", "values-shown": "absolute", "scale": "linear"}
    linear, log = shown(sweep, tmp_path, view, {"scale": "log"})
    every, placed = ([line["y"] for line in each["chart"]["lines"] if line["dash"] == "dash"] for each in (linear, log))
    assert len(every) == len(placed) == 2
    for bound, positive in zip(every, placed, strict=True):
        np.testing.assert_allclose([bound[0], bound[-1]], [0.682 - 2, 68.2 - 2], rtol=1e-6)
        assert positive == [value for value in bound if value > 0]


FILTERS = [
    ("depth=3", [4, 5, 6, 7], []),
    ("depth.layers=3 seed<2", [4, 5], []),  # a key that says the same as depth.name
    ("layers>2", [4, 5, 6, 7], []),
    ("init=balanced", range(8), []),  # the same for all runs
    ("init.scale<1", range(8), []),
    ("|entry/0_0|>68.2", [2, 3, 6, 7], []),
    ("abs(entry/0_0) > 68.2 depth=3", [6, 7], []),
    ("entry/0_0>68.2", [2, 6], []),
    ("status!=converged", [], []),
    ("seed=3", [3, 7], []),
    ("bogus=3", range(8), ["bogus=3: no key or metric bogus; this term is left out"]),
    ("dept=3", range(8), ["dept=3: no key or metric dept (did you mean depth?); this term is left out"]),
    (
        "norm/nuclaer>1 seed=0",
        [0, 4],
        ["norm/nuclaer>1: no key or metric norm/nuclaer (did you mean norm/nuclear?); this term is left out"],
    ),
    ("seed==1", range(8), ["seed==1: == is no comparison; expected one of = != < <= > >=; this term is left out"]),
    ("loss<small", range(8), ["loss<small: loss holds numbers, and small is none; this term is left out"]),
    ("seed=one", range(8), ["seed=one: seed holds numbers, and one is none; this term is left out"]),
    ("status<3", range(8), ["status<3: status holds text; expected = or !=, and no bars; this term is left out"]),
    ("seed=", range(8), ["seed=: a value is missing after =; this term is left out"]),
    ("=3", range(8), ["=3: a key or metric is missing before =; this term is left out"]),
    ("status=diverged", [], ["status=diverged: no run has diverged there, but converged"]),
    ("|bogus|>3", range(8), ["|bogus|>3: no key or metric bogus; this term is left out"]),
    ("abs(bogus)>3", range(8), ["abs(bogus)>3: no key or metric bogus; this term is left out"]),
    ("log(loss)<-3", range(8), ["log(loss)<-3: no function log; there is abs; this term is left out"]),
    ("abs()>3", range(8), ["abs()>3: abs() is of a key or metric; this term is left out"]),
    ("depth:3", [], ["depth:3: no run has this text in its keys, name, status or overrides"]),
]


def test_unreadable_filter_is_reported(sweep, tmp_path):
    for (text, rows, said), found in zip(
        FILTERS, shown(sweep, tmp_path, *({"filter": f} for f, *_ in FILTERS)), strict=True
    ):
        assert found == {"rows": list(rows), "said": said}, text


def test_curves_in_python_and_charts_for_wandb_follow_the_same_rule(sweep):
    loaded = library.load(sweep)
    for absolute, expected in ((None, 68.2), (True, 68.2), (False, 0.0)):
        last = loaded.curves("entry/0_0", by="depth.layers", absolute=absolute).sort("loss")["median"][0]
        assert last == pytest.approx(expected, abs=1e-9)
    assert loaded.plot("entry/0_0").get_ylabel() == "|entry/0_0|"
    assert loaded.plot("entry/0_0", absolute=False).get_ylabel() == "entry/0_0"
    assert loaded.plot("norm/nuclear").get_ylabel() == "norm/nuclear"
    _, sizes = charts(loaded)["entry/0_0"].lines["depth 2"]
    assert sizes[-1] == pytest.approx(np.log10(68.2))
