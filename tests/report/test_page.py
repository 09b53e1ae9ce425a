import errno
import os
import re

import numpy as np
import polars as pl
import pytest

import rankward as library
from helpers.browser import opened
from helpers.commands import TENSOR
from helpers.in_process import rankward
from rankward import results
from rankward.report import collect as collecting
from rankward.report.pack import unpack
from rankward.report.page import LIMIT, write_report

SWEEP = ["-m", "depth=2,3", "init=gaussian,balanced", "seed=range(0,3)", "max_iterations=20000", "logger=none"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    done = rankward(*SWEEP, "hydra.sweep.dir=sweep", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "sweep"


def held(path):
    """What a page holds."""
    text = path.read_text(encoding="utf-8")
    return unpack(re.search(r'<script id="data"[^>]*>(.*?)</script>', text, re.DOTALL).group(1))


def test_a_page_holds_the_runs_and_all_of_their_curves(sweep):
    done = rankward("report", "sweep", cwd=sweep.parent)
    assert done.returncode == 0 and done.stdout == "report:  sweep/report.html\n"
    header, arrays = held(sweep / "report.html")
    runs = library.load(sweep).runs
    assert header["runs"] == 12 and header["notes"] == []
    assert header["keys"] == ["depth.name", "init.name", "seed"]  # depth.layers says the same as depth.name
    assert header["constant"]["observations.name"] == "paper_2x2"
    np.testing.assert_array_equal(arrays["run/loss"], runs["loss"])
    assert [header["texts"]["overrides"][k] for k in arrays["run/overrides"]] == runs["overrides"].to_list()
    starts = arrays["curve/start"]
    for place, row in enumerate(arrays["curve/run"]):
        trace = results.read_trace(sweep / runs["run"][int(row)])
        rows = slice(starts[place], starts[place + 1])
        np.testing.assert_array_equal(arrays["x/iteration"][rows], trace["iteration"])
        np.testing.assert_allclose(arrays["y/norm/nuclear"][rows], trace["norm/nuclear"], rtol=1e-7)


def test_the_same_results_give_the_same_page_and_a_run_its_own(sweep, tmp_path):
    pages = [write_report(sweep, tmp_path / name)[0].read_bytes() for name in ("one.html", "two.html")]
    assert pages[0] == pages[1]
    header, arrays = held(write_report(sweep / "3", tmp_path / "run.html")[0])
    assert header["runs"] == 1 and header["keys"] == []
    assert arrays["x/iteration"].tolist() == results.read_trace(sweep / "3")["iteration"].to_list()


def test_curves_are_thinned_to_what_a_page_can_hold_and_it_says_so(sweep):
    whole = collecting.collect(sweep, LIMIT)
    report = collecting.collect(sweep, len(whole.packed) // 2)
    assert len(whole.packed) // 4 < len(report.packed) <= len(whole.packed) // 2
    (note,) = report.notes
    points = int(re.search(r"at most (\d+) points", note).group(1))
    header, arrays = unpack(report.packed)
    assert header["notes"] == [note]
    sizes = np.diff(arrays["curve/start"])
    assert sizes.max() == points
    runs = library.load(sweep).runs
    for place, row in enumerate(arrays["curve/run"]):
        trace = results.read_trace(sweep / runs["run"][int(row)])
        kept = arrays["x/iteration"][arrays["curve/start"][place] : arrays["curve/start"][place + 1]]
        assert (kept[0], kept[-1]) == (0, trace["iteration"][-1])  # ends stay
        values = arrays["y/norm/nuclear"][arrays["curve/start"][place] : arrays["curve/start"][place + 1]]
        exact = trace.filter(pl.col("iteration").is_in(kept.astype(int).tolist()))["norm/nuclear"]
        np.testing.assert_allclose(values, exact, rtol=1e-5)


def test_large_sweeps_are_subsampled(sweep, monkeypatch):
    monkeypatch.setattr(collecting, "MAX_RUNS", 6)
    monkeypatch.setattr(collecting, "MAX_CURVES", 3)
    report = collecting.collect(sweep, LIMIT)
    header, arrays = unpack(report.packed)
    assert header["runs"] == 6 and len(arrays["curve/run"]) == 3
    assert report.notes == (
        "6 of 12 runs are shown, evenly picked.",
        "Curves of 3 of 6 runs are kept, evenly picked; the table has all.",
    )


def test_runs_without_a_result_are_shown_as_missing(sweep, tmp_path):
    import shutil

    copy = tmp_path / "sweep"
    shutil.copytree(sweep, copy)
    (copy / "runs.parquet").unlink()
    (copy / "4" / "summary.json").unlink()
    (copy / "5" / "trace.parquet").unlink()
    header, arrays = held(write_report(copy)[0])
    states = [header["texts"]["status"][k] for k in arrays["run/status"]]
    assert states.count("missing") == 2 and states[4] == states[5] == "missing"
    assert np.isnan(arrays["run/loss"][4:6]).all()


def test_bad_folders_are_one_line(tmp_path):
    for arguments, line, code in (
        (["report"], "report: the following arguments are required: FOLDER; usage: rankward report", 2),
        (["report", "a", "--to=b"], "report: unrecognized arguments: --to=b; usage: rankward report", 2),
        (["report", "nowhere"], "cannot read nowhere: no such folder", 1),
        (["report", "."], "cannot read .: it has no runs", 1),
    ):
        done = rankward(*arguments, cwd=tmp_path)
        assert done.returncode == code and done.stdout == ""
        assert done.stderr.startswith(f"rankward: {line}") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_where_the_folder_cannot_be_written_it_says_how_to_write_elsewhere(sweep, tmp_path, monkeypatch, number):
    def refused(path, write):
        raise results.io_error("write", path, OSError(number, os.strerror(number)))

    with (
        monkeypatch.context() as patched,
        pytest.raises(results.ResultsError, match="; --out FILE writes it elsewhere"),
    ):
        patched.setattr(results, "write_atomic", refused)
        write_report(sweep)
    assert write_report(sweep, tmp_path / "r.html")[0].is_file()


@pytest.mark.slow
@pytest.mark.parametrize("context", [{}, {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}])
def test_a_report_is_explored_in_a_browser(sweep, tmp_path, context):
    path, _ = write_report(sweep, tmp_path / "report.html")
    runs = library.load(sweep).runs
    with opened(path, "html[data-ready]", **context) as page:
        assert "12 runs: " in page.inner_text("#states")
        page.fill("#filter", "depth=3 init=balanced")
        page.get_by_text("3 of 12 runs", exact=True).wait_for()
        kept = runs.filter((pl.col("depth.layers") == 3) & (pl.col("init.name") == "balanced"))
        listed = page.locator("#runs tbody th button").all_inner_texts()
        assert listed == kept["run"].to_list()
        assert "of 3 runs" in page.inner_text("#chart-told")

        page.get_by_role("columnheader", name="loss").get_by_role("button").click()
        by_loss = page.locator("#runs tbody th button").all_inner_texts()
        assert by_loss == kept.sort("loss")["run"].to_list()
        assert page.locator("#runs th[aria-sort=ascending]").inner_text().startswith("loss")

        page.select_option("#lines", "each")
        page.select_option("#metric", "norm/nuclear")
        bounds = page.evaluate("chart.data.filter(line => line.line.dash === 'dash').map(line => [...line.y])")
        raw = library.load(sweep).traces().filter(pl.col("run").is_in(kept["run"].to_list())).collect()
        says = raw.filter(pl.col("bound/norm/nuclear") > 0)["bound/norm/nuclear"]
        assert raw["bound/norm/nuclear"].min() < 0  # such a bound says nothing, and has no place on a log axis
        np.testing.assert_allclose(sorted(value for line in bounds for value in line), says.sort(), rtol=1e-4)

        page.select_option("#metric", "entry/0_0")
        for values, title in (("absolute", "|entry/0_0|"), ("signed", "entry/0_0")):
            page.select_option("#values-shown", values)
            page.select_option("#heat-metric", "entry/0_0")
            page.select_option("#heat-values", values)
            assert page.evaluate("chart.layout.yaxis.title.text") == title
            assert page.inner_text("#heat caption").startswith(f"Last {title} of 3 runs")
        last = kept["entry/0_0"].median()
        assert float(page.locator("#heat tbody td").first.inner_text()) == pytest.approx(last, rel=1e-4)
        page.fill("#filter", "bogus=3")
        page.get_by_text("12 of 12 runs", exact=True).wait_for()
        assert "no key or metric bogus" in page.inner_text("#filter-said")
        page.fill("#filter", "depth=3 init=balanced")
        page.get_by_text("3 of 12 runs", exact=True).wait_for()
        assert not page.is_visible("#filter-said")

        name = kept["run"][1]
        page.get_by_role("button", name=f"Show run {name}", exact=True).press("Enter")  # by keyboard alone
        assert page.evaluate("document.activeElement.id") == "run-title"
        assert page.inner_text("#run-title") == f"Run {name}"
        trace = results.read_trace(sweep / name)
        page.focus("#moment")
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        shown = [float(text) for text in page.locator("#matrix td").all_inner_texts()]
        expected = [trace[f"entry/{i}_{j}"][2] for i in range(2) for j in range(2)]
        np.testing.assert_allclose(shown, expected, rtol=1e-4)
        assert f"iteration {trace['iteration'][2]:,}" in page.inner_text("#moment-told")
        assert page.inner_text("#run-certificates").count("theorem_1/") == 6

        width = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width[0] <= width[1]  # nothing but tables in their boxes scrolls sideways
        for label in page.locator("input, select").all():
            assert label.evaluate("field => field.labels.length") == 1  # what a screen reader says


@pytest.mark.slow
def test_the_address_holds_the_state_and_data_are_saved(sweep, tmp_path):
    path, _ = write_report(sweep, tmp_path / "report.html")
    with opened(path, "html[data-ready]") as page:
        states = [page.evaluate("location.hash")]
        for change in (
            lambda: page.select_option("#metric", "norm/nuclear"),
            lambda: page.select_option("#panels", "init.name"),
            lambda: page.get_by_role("columnheader", name="loss").get_by_role("button").click(),
            lambda: page.get_by_role("button", name="Show run 4", exact=True).click(),
        ):
            change()
            states.append(page.evaluate("location.hash"))
        assert states[0] == "" and states[4] == "#panels=init.name&sort=loss&metric=norm%2Fnuclear&run=4"
        assert page.evaluate("chart.querySelector('svg').clientHeight === chart.clientHeight")  # drawn again, in panels
        page.fill("#filter", "depth=3")
        page.get_by_text("6 of 12 runs", exact=True).wait_for()
        assert page.evaluate("location.hash").startswith("#filter=depth%3D3&panels=")
        page.go_back()
        page.get_by_text("12 of 12 runs", exact=True).wait_for()
        for state in states[3::-1]:
            page.go_back()
            page.wait_for_function("hash => location.hash === hash", arg=state)
        assert page.input_value("#metric") == "entry/0_0" and page.input_value("#values-shown") == "absolute"
        assert not page.is_visible("#run-body") and page.input_value("#sort") == ""

        page.evaluate("location.hash = '#metric=entry/0_0&values-shown=signed&rows=settings&axis=colour&zoom=3&run=77'")
        page.wait_for_function("chart.layout.yaxis.title.text === 'entry/0_0'")
        told = page.locator("#address-said li").all_inner_texts()
        asked = ("axis=colour: no such choice", "zoom: no such control", "run=77: no such run")
        assert told == [f"The address of this page asks for {line}" for line in asked]
        page.evaluate("location.hash = '#rows=settings&last-y=norm/nuclear'")
        page.wait_for_function("document.querySelector('#last').layout.yaxis.title.text === 'norm/nuclear'")
        saved = {}
        for name in ("runs.csv", "curves.csv", "last.csv", "heat.csv", "curves.png", "last.svg"):
            with page.expect_download() as download:
                page.locator(f"[data-save='{name}']").click()
            assert download.value.suggested_filename == f"sweep-{name}"
            saved[name] = tmp_path / name
            download.value.save_as(saved[name])
        runs = library.load(sweep).runs
        table = pl.read_csv(saved["runs.csv"])
        expected = runs.group_by("depth.name", "init.name", maintain_order=True).agg(pl.col("entry/0_0").abs().median())
        np.testing.assert_allclose(table["|entry/0_0|"], expected["entry/0_0"], rtol=1e-9)
        last = pl.read_csv(saved["last.csv"]).sort("run")
        np.testing.assert_allclose(last["norm/nuclear"], runs.sort(pl.col("run").cast(int))["norm/nuclear"], rtol=1e-9)
        assert saved["curves.png"].read_bytes().startswith(b"\x89PNG") and b"<svg" in saved["last.svg"].read_bytes()


@pytest.mark.slow
def test_a_point_of_the_chart_opens_its_run(sweep, tmp_path):
    path, _ = write_report(sweep, tmp_path / "report.html")
    with opened(path, "html[data-ready]") as page:
        page.select_option("#lines", "each")
        page.locator("#chart").scroll_into_view_if_needed()
        line = page.evaluate(
            "({x: chart.data[0].x.at(-1), y: chart.data[0].y.at(-1), run: chart.data[0].customdata[0]})"
        )
        place = page.evaluate(
            "([x, y]) => { const {xaxis, yaxis} = chart._fullLayout, box = chart.getBoundingClientRect();"
            " return [box.x + xaxis._offset + xaxis.d2p(x), box.y + yaxis._offset + yaxis.d2p(y)]; }",
            [line["x"], line["y"]],
        )
        page.mouse.move(*place, steps=5)
        page.wait_for_timeout(200)
        page.mouse.click(*place)
        page.locator("#run-body").wait_for()
        opened_run = int(page.inner_text("#run-title").removeprefix("Run "))
        x, y = page.evaluate("row => [row.x, row.y]", {"x": line["x"], "y": line["y"]})
        trace = results.read_trace(sweep / str(opened_run))
        np.testing.assert_allclose([trace["loss"][-1], abs(trace["entry/0_0"][-1])], [x, y], rtol=1e-5)


@pytest.mark.slow
def test_tensors_and_a_single_run_have_a_page_too(tmp_path):
    done = rankward(*TENSOR, "observations.count=30", "max_iterations=500", "hydra.run.dir=one", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with opened(write_report(tmp_path / "one")[0], "html[data-ready]") as page:
        assert page.inner_text("#values-title") == "The norms of its components"
        assert "cp_weight/0" in page.inner_text("#values-told")
        assert "No entries" in page.inner_text("#matrix")


@pytest.mark.slow
def test_a_thousand_runs_fit_into_five_megabytes(tmp_path):
    done = rankward(
        "-m", "depth=2,3", "seed=range(0,500)", "logger=none", "max_iterations=30000", "hydra.sweep.dir=s", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    path, notes = write_report(tmp_path / "s")
    assert 3e6 < path.stat().st_size < 5e6 and len(notes) == 1
    with opened(path, "html[data-ready]") as page:
        assert page.inner_text("#states").startswith("1,000 runs")
        page.click("#more")
        assert page.locator("#runs tbody tr").count() == 400
