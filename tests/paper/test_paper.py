import html
import json
import re
import signal
import subprocess
import sys
import time
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest

from helpers.browser import opened
from helpers.commands import rankward
from rankward import results
from rankward.paper import page, run
from rankward.paper.circuit import compare
from rankward.paper.claim import HOLDS, NOT_RUN, Claim, Evidence, number, tried
from rankward.paper.formulas import typeset
from rankward.paper.steps import Step, left_out, steps

STATEMENTS = [
    "Conjecture 1",
    "Conjecture 2",
    "Proposition 1",
    "Proposition 2",
    "Theorem 1",
    "Corollary 1",
    "Proposition 3",
    "Proposition 4",
    "Beyond Proposition 4",
    "Theorem 2",
]
STATEMENTS += ["Figure 1", "Refinement of Figure 1", "Small steps and small starts", "Figure 4", "Figure 5"]
STATEMENTS += ["Flow and descent", "Appendix D"]
STATEMENTS += ["Figure 2", "Figure 3", "Figure 6"]
SMALL = (
    Step("figure1", ("-m", "depth=3", "init=balanced", "max_iterations=500"), 1),
    Step("theorem_2", ("-m", "depth=-1"), 1),
    Step("circuit", ("circuit",), 1),
)


def verdicts(path):
    """Of each statement on a page."""
    text = path.read_text(encoding="utf-8")
    found = re.findall(r'<tr><th scope="row"><a href="#[^"]*">([^<]*)</a></th><td>[^<]*</td><td class="([^"]*)">', text)
    return dict(found)


def test_every_step_is_read_and_every_statement_has_its_steps():
    for quick in (True, False):
        known = {step.name for step in steps(quick)}
        needed = {name for claim, _ in page.CLAIMS for name in claim.needs}
        assert needed <= known and known - needed <= {"figure1_float32"}
    assert [claim.name for claim, _ in page.CLAIMS] == STATEMENTS
    assert all(claim.rule.endswith(".") and claim.omits.endswith(".") for claim, _ in page.CLAIMS)


def read_aloud(markup):
    """The text of a sentence with MathML, each formula in brackets; raises unless it is well-formed."""
    sentence = ElementTree.fromstring(f"<p>{markup}</p>")
    return (sentence.text or "") + "".join(f"[{''.join(each.itertext())}]{each.tail or ''}" for each in sentence)


def test_formulas_of_sentences_are_mathml():
    for text, read in (
        ("At depth 2 |W_11| ends at 8.2; exp(-W_11²/2), and", "At depth 2 [|W11|] ends at 8.2; [exp(-W112/2)], and"),
        ("its law -W_11²/2 - 3 ln W_11 + c holds from 20 on", "its law [-W112/2-3lnW11+c] holds from 20 on"),
        ("near |W_11| = 3.2 to 1e-3, 2,000 points", "near [|W11|=3.2] to [10-3], 2,000 points"),
        ("b_12 = -2, W_11 > 0, b_22 of 0, 5e+6", "[b12=-2], [W11>0], [b22] of 0, [5×106]"),
        (
            "lr.eta=1e-3, within 2 % of 1 & theorem_2/entry/0_0 <",
            "lr.eta=1e-3, within 2 % of 1 & theorem_2/entry/0_0 <",
        ),
    ):
        assert read_aloud(typeset(text)).replace("\N{MINUS SIGN}", "-") == read
    for claim, _ in page.CLAIMS:
        for text in (claim.says, claim.rule, claim.omits):
            assert not re.search(r"[Wb]_\d", read_aloud(typeset(text))), text


def test_quick_differs_only_by_its_reductions():
    full, quick = ({step.name: step.command for step in steps(each)} for each in (False, True))
    listed = {name: (whole, here) for name, whole, here in left_out()}
    assert listed.keys() == {name for name in full if quick.get(name) != full[name]}
    assert all(pair == (full[name], quick.get(name, "")) for name, pair in listed.items())


def test_the_circuit_is_the_factorization():
    assert compare((8, 8, 8), 64) < 1e-13
    assert compare((2, 3, 4, 5), 7, seed=3) < 1e-13


def test_statement_without_its_step_is_not_run(tmp_path):
    claim = Claim("Theorem 1", "Section 3.2", "it holds", ("theorem_1",), "a rule.", "nothing.")
    evidence = Evidence(tmp_path, steps(), {"figure1"})
    assert tried(claim, evidence, lambda _: {"verdict": HOLDS}).verdict == NOT_RUN
    evidence = Evidence(tmp_path, steps(), {"theorem_1"})
    assert tried(claim, evidence, lambda _: {"verdict": HOLDS}).verdict == HOLDS


@pytest.mark.slow
def test_failing_step_is_reported_and_the_others_run(tmp_path, monkeypatch, capsys):
    for module in (run, page):
        monkeypatch.setattr(module, "steps", lambda quick: list(SMALL))
    claims = [(claim, trial) for claim, trial in page.CLAIMS if claim.name in ("Figure 3", "Theorem 2")]
    monkeypatch.setattr(page, "CLAIMS", tuple(claims[::-1]))
    previous = signal.getsignal(signal.SIGTERM)
    try:
        assert run.make_paper(tmp_path / "out", quick=False) == 1
    finally:
        signal.signal(signal.SIGTERM, previous)
    told = capsys.readouterr()
    assert "theorem_2: FAILED (2)" in told.out and "circuit: done" in told.out
    assert told.err.startswith("rankward: paper: theorem_2 has failed, see ") and told.err.count("\n") == 1
    assert "depth.layers" in (tmp_path / "out" / "log.txt").read_text()
    assert verdicts(tmp_path / "out" / "paper.html") == {"Figure 3": HOLDS, "Theorem 2": NOT_RUN}
    assert results.is_complete(tmp_path / "out" / "sweeps" / "figure1" / "0")
    assert {path.name for path in (tmp_path / "out" / "figures").iterdir()} == {
        "figure3.png",
        "figure3.svg",
        "figure3.pdf",
    }


def test_unsuitable_folders_are_refused_in_one_line(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "steps.json").write_text(json.dumps({"quick": False, "steps": {}}))
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "steps.json").write_text("{")
    for folder, line, code in (
        ("mine", "paper --out: 'mine' is not allowed; expected a new folder, or one of a paper", 2),
        ("whole", "paper --out: 'whole' is not allowed; expected another folder: the paper there was made without", 2),
        ("torn", "cannot read torn/steps.json", 1),
    ):
        done = rankward("paper", "--quick", "--out", folder, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr.startswith(f"rankward: {line}") and done.stderr.count("\n") == 1
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["notes.txt"]


def test_the_bar_never_runs_ahead_and_its_time_left_falls():
    class Progress:
        console = type("Console", (), {"print": staticmethod(lambda *_, **__: None)})

        def add_task(self, *_, **__):
            return 0

        def update(self, _, **fields):
            seen.update(fields)

    seen = {}
    todo = [Step("one", ("circuit",), 10.0), Step("two", ("circuit",), 30.0)]
    bar = run.StepBar(Progress(), todo)
    bar.begins(todo[0])
    bar.began -= 100  # it has taken ten times as long as thought
    bar.tick()
    assert seen["completed"] == pytest.approx(9.7) and seen["description"] == "one"
    bar.ended(todo[0], {"code": 0, "seconds": 20.0})
    assert seen["completed"] == 10 and seen["left"] == "1 min"  # this machine takes twice the time
    bar.begins(todo[1])
    bar.began -= 30
    bar.tick()
    assert seen["completed"] == pytest.approx(25, abs=0.1) and seen["left"] == "30 s"


@pytest.mark.slow
def test_the_paper_in_a_minute(tmp_path):
    command = [sys.executable, "-m", "rankward", "paper", "--quick", "--out", "paper"]
    first = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = [first.stdout.readline() for _ in range(3)]  # two steps are done
    time.sleep(1)
    first.send_signal(signal.SIGINT)
    _, error = first.communicate(timeout=60)
    assert first.returncode == 130 and error.count("\n") == 1 and "interrupted" in error
    assert [line.split(":")[0] for line in lines[1:]] == ["propositions", "theorem_1"]

    out = tmp_path / "paper"
    done = rankward("paper", "--quick", "--out", "paper", cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr + (out / "log.txt").read_text()
    assert done.stderr == "" and "propositions: done" not in done.stdout  # kept
    found = verdicts(out / "paper.html")
    assert set(found.values()) == {"holds", "in part", "fails", "evidence only"} and list(found) == STATEMENTS
    assert [name for name, verdict in found.items() if verdict == "fails"] == ["Conjecture 1"]
    assert found["Refinement of Figure 1"] == "in part"
    # The same runs, in singular coordinates: at every depth both have rows that could have failed.
    assert found["Theorem 1"] == found["Corollary 1"] == "holds"
    expected = {f"figure{n}.{kind}" for n in "123456" for kind in ("png", "svg", "pdf")}
    assert expected <= {path.name for path in (out / "figures").iterdir()}

    page_before = (out / "paper.html").read_bytes()
    again = rankward("paper", "--quick", "--out", "paper", cwd=tmp_path)
    assert again.returncode == 0 and len(again.stdout.splitlines()) == 2  # nothing to run
    assert (out / "paper.html").read_bytes() == page_before

    text = html.unescape(page_before.decode())
    assert text.count("<dt>By</dt>") == len(STATEMENTS)  # every verdict says on what it rests
    runs = results.gather(out / "sweeps" / "figure1")
    for run_ in runs.iter_rows(named=True):  # the page's numbers are the files'
        assert f"<td>{number(abs(run_['entry/0_0']))}</td><td>{number(run_['norm/nuclear'])}</td>" in text
    flows = results.gather(out / "sweeps" / "theorem_1")
    margin = flows["certificates.theorem_1/norm/nuclear.margin"].min()
    assert "<td>norm/nuclear</td>" in text and f"<td>{number(margin)}</td>" in text
    tf = results.gather(out / "sweeps" / "figure2").filter(
        (pl.col("factorization.name") == "tensor")
        & (pl.col("init.scale") == 1e-3)
        & (pl.col("observations.count") == 400)
    )
    median = str(typeset(number(float(np.median(tf["error/reconstruction"])), 2)))
    assert html.unescape(median.removeprefix("<math>").removesuffix("</math>")) in text

    with opened(out / "paper.html", viewport={"width": 390, "height": 844}) as shown:
        assert shown.locator("main section:not(#left-out)").count() == len(STATEMENTS)
        widths = shown.locator("img").evaluate_all("all => all.map(picture => picture.naturalWidth)")
        assert len(widths) == len([1 for claim, _ in page.CLAIMS if claim.name[:3] in ("Fig", "Ref", "App", "Flo")]) + 1
        assert min(widths) > 100
        width = shown.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width[0] <= width[1]
        for command in set(shown.locator("main pre").all_inner_texts()):
            if command.startswith("rankward -m"):  # what it says to type is understood
                import shlex

                tried_out = rankward(*shlex.split(command)[1:], "--dry-run", cwd=tmp_path)
                assert tried_out.returncode == 0, tried_out.stderr
