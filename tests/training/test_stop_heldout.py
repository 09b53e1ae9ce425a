"""The stop on held-out entries: the row at which a loop over an unstopped run's rows ends, whatever the chunks."""

import numpy as np
import pytest

from helpers.runs import composed, contents, interrupted_after, trained
from rankward import results
from rankward.config.errors import InputError
from rankward.training import patience
from rankward.training.ensemble import Ensemble
from rankward.training.module import EnsembleModule

TASK = ["depth='2'", "init.scale=0.1", "lr.eta=2e-2", "max_iterations=600", "engine=reference", "record.every=50"]
TASK += ["observations=random_matrix", "observations.dims=[5,4]", "observations.rank=1", "observations.count=12"]
TASK += ["observations.holdout=4", "metrics=few", "stop_loss=0"]


def stop_of(iterations, errors, limit):
    """The index of the row at which a run ends; None if it does not."""
    least, at = np.inf, 0
    for index, (iteration, error) in enumerate(zip(iterations, errors, strict=True)):
        if error < least:
            least, at = error, iteration
        elif iteration - at >= limit:
            return index
    return None


def test_rows_of_many_runs_end_where_a_loop_ends_whatever_the_chunks():
    random = np.random.default_rng(0)
    runs, rows = 40, 30
    iterations = np.cumsum(random.integers(1, 5, (runs, rows)), axis=1) * 10 - 10
    errors = random.choice([1.0, 2.0, 3.0, np.nan, np.inf], (runs, rows)) + 0.5 * random.random((runs, 1))
    limits = random.choice([0, 50, 120, 10_000], runs)
    expected = [limit and stop_of(*each) for *each, limit in zip(iterations, errors, limits, limits, strict=True)]
    expected = [None if limits[run] == 0 else expected[run] for run in range(runs)]
    state = {name: value.numpy() for name, value in patience.start(runs).items()}
    found: dict[int, int] = {}
    for first, last in ((0, 1), (1, 12), (12, 30)):
        going = [run for run in range(runs) if run not in found]
        run = np.repeat(going, last - first)
        each = [array[going, first:last].ravel() for array in (iterations, errors)]
        stops, state = patience.stops(run, *each, limits, state)
        found |= {int(run[row]): first + int(row) % (last - first) for row in stops}
    assert found == {run: row for run, row in enumerate(expected) if row is not None}
    assert 5 < len(found) < runs


def test_a_stopped_run_is_the_beginning_of_an_unstopped_one(tmp_path, monkeypatch):
    jobs = [[*TASK, f"seed={seed}"] for seed in (1, 3)]
    trained(tmp_path / "free", *jobs)
    stopped = [[*job, "stop_heldout=100"] for job in jobs]
    lengths = iter([50, 450, 50, 50])
    with monkeypatch.context() as patched:
        patched.setattr(EnsembleModule, "_next_length", lambda *_: next(lengths))
        ended = trained(tmp_path / "one", *stopped)
    trained(tmp_path / "alone", stopped[0])
    assert [each.status for each in ended] == ["stop_heldout", "max_iterations"]
    for run, outcome in enumerate(ended):
        free = results.read_trace(tmp_path / "free" / str(run))
        row = stop_of(free["iteration"].to_list(), free["error/heldout_rmse"].to_list(), 100)
        trace = results.read_trace(tmp_path / "one" / str(run))
        if row is None:
            assert outcome.status == "max_iterations" and trace.equals(free)
        else:
            assert outcome.status == "stop_heldout" and trace.equals(free[: row + 1])
            assert outcome.summary["iterations"] == free["iteration"][row]
        assert outcome.summary["stop"]["heldout"] == 100
        arrays = results.read_arrays(tmp_path / "one" / str(run))
        np.testing.assert_allclose(arrays["final.1"] @ arrays["final.0"], arrays["product"], rtol=1e-13)
        difference = (arrays["product"] - arrays["heldout.values"])[arrays["heldout.mask"]]
        assert trace["error/heldout_rmse"][-1] == pytest.approx(np.sqrt(np.mean(difference**2)), rel=1e-12)
    assert contents(tmp_path / "one" / "0") == contents(tmp_path / "alone" / "0")


@pytest.mark.slow
def test_an_interrupted_run_remembers_its_best_row(tmp_path, monkeypatch):
    job = [*TASK, "seed=1", "stop_heldout=100"]
    monkeypatch.setattr(EnsembleModule, "_next_length", lambda *_: 50)
    (whole,) = trained(tmp_path / "whole", job)
    with monkeypatch.context() as patched:
        interrupted_after(patched, whole.summary["iterations"] // 50 - 1)
        (ended,) = trained(tmp_path / "parts", job)
    assert (whole.status, ended.status) == ("stop_heldout", "interrupted")
    trained(tmp_path / "parts", job, ckpt_path=tmp_path / "parts" / "0" / results.CHECKPOINT)
    assert contents(tmp_path / "parts" / "0") == contents(tmp_path / "whole" / "0")


@pytest.mark.parametrize(("words", "expected"), [
    (["stop_heldout=100"], "stop_heldout: 100 is not allowed; expected null: no entries are held out"),
    (["stop_heldout=0", "observations.holdout=1"], "stop_heldout: 0 is not allowed; expected an integer of at least 1"),
])  # fmt: skip
def test_a_stop_without_held_out_entries_is_refused(words, expected):
    with pytest.raises(InputError) as refused:
        Ensemble.of([composed(*words)[0]])
    assert expected in str(refused.value)
