"""What is said of runs that diverge or stall, with numbers by hand, and that others are left in peace."""

import numpy as np
import pytest

from helpers.runs import composed, trained
from rankward import results
from rankward.training import hints
from rankward.training.ensemble import Ensemble
from rankward.training.job import result_line
from rankward.training.module import EnsembleModule
from rankward.training.outputs import EnsembleOutputs
from rankward.training.train import fit

SMALL = "init.scale=1e-6"  # at (nearly) zero factors of depth 2 the Hessian has the values' singular values, and minus those


def noted(tmp_path, *job):
    (outcome,) = trained(tmp_path, list(job))
    return outcome.status, {name: note for name, note in outcome.summary["notes"].items() if name in hints.HINTS}


def test_values_that_are_too_large_for_the_step(tmp_path):
    # [[?, 1e4], [1, 0]]: singular values 1e4 and 1, so 2/sharpness is 2e-4 at the start; at a solution of depth 2 the
    # sharpness is at least 2 * 1e4.
    job = ["observations=perturbed", "observations.b_12=1e4", "depth='2'", "lr.eta=0.01", SMALL]
    run, _ = composed("logger=none", *job)
    (outcome,) = trained(tmp_path, job)
    assert outcome.status == "diverged"
    note = outcome.summary["notes"]["diverged"]
    assert note == (
        "the step size 0.01 exceeds 0.0001, above which no solution is stable: an observation of size 1e+04 makes "
        "their sharpness 2e+04 or more; the step size 0.01 exceeds 2/sharpness = 0.0002 at the start"
    )
    assert result_line(run, outcome).endswith(f"; {note}") and "diverged after" in result_line(run, outcome)
    assert results.read_summary(tmp_path / "0")["notes"]["diverged"] == note
    # A step below both does not diverge.
    assert noted(tmp_path / "b", *job, "lr.eta=9e-5", "max_iterations=20000") in (
        ("converged", {}),
        ("max_iterations", {}),
    )


@pytest.mark.parametrize(
    ("job", "note"),
    {
        # Of one layer the Hessian is the mask, everywhere.
        ("factorization=linear", "lr.eta=2.5"): "the step size 2.5 exceeds 2, above which no solution is stable: an "
        "observation of size 1 makes their sharpness 1 or more; the step size 2.5 exceeds 2/sharpness = 2 at the start",
        # (w I)^2 at w^2 = 100 with the values [[?, 1], [1, 0]]: found from the Hessian of w_2 w_1 in NumPy below.
        ("depth='2'", "lr.eta=0.3", "init=identity", "init.scale=100"): "the step size 0.3 exceeds 2/sharpness = {} "
        "at the start",
        ("depth='2'", "init.scale=1e200"): "the loss at the start is inf: init.scale or the data are too large",
        ("lr=flow", "depth='2'", "init.scale=1e200"): "the loss at the start is inf: init.scale or the data "
        "are too large",
    }.items(),
)
def test_steps_that_are_too_large(tmp_path, job, note):
    if "{}" in note:
        mask, values, eye = np.array([[0, 1], [1, 1.0]]), np.array([[0, 1], [1, 0.0]]), np.eye(2)

        def height(point):
            below, above = 10 * eye + point[:4].reshape(2, 2), 10 * eye + point[4:].reshape(2, 2)
            return 0.5 * (mask * (above @ below - values) ** 2).sum()

        small, steps = 1e-3, np.eye(8)
        hessian = [
            [
                (height(small * (a + b)) - height(small * (a - b)) - height(small * (b - a)) + height(-small * (a + b)))
                / (4 * small**2)
                for a in steps
            ]
            for b in steps
        ]
        note = note.format(f"{2 / np.linalg.eigvalsh(hessian)[-1]:.3g}")
    assert noted(tmp_path, *job) == ("diverged", {"diverged": note})


def test_hints_for_growing_sharpness_and_adaptive_steps(tmp_path):
    status, notes = noted(tmp_path, "observations=sensing", "metrics=completion", "init.scale=1e-3", "lr.eta=1")
    assert (
        status == "diverged" and "is below 2/step size = 2, and has passed it later: lower lr.eta" in notes["diverged"]
    )
    job = ["depth='2'", "lr=adaptive", "init=identity", "init.scale=4", "max_iterations=50"]
    run, _ = composed("logger=none", *job, "lr.eta=0.5")
    # At 2 I twice the gradient is [[0, -2], [-2, 8]] in both layers: its norm is sqrt(2 * 72) = 12.
    assert hints.first_adaptive_step(Ensemble.of([run]), 0) == pytest.approx(0.5 / 12, rel=1e-6)


def test_a_run_that_stalls_at_the_edge_of_stability(tmp_path):
    # Depth 3 at 1e-2 ends at a sharpness of 200.30, against 2/1e-2 = 200.
    job = ["depth='3'", "init=balanced", "lr.eta=1e-2"]
    status, notes = noted(tmp_path, *job)
    assert status == "max_iterations"
    assert (
        "stalled at the edge of stability: the sharpness at the end, 200.3, is about 2/step size = 200,"
        in (notes["stalled"])
    )
    losses = results.read_trace(tmp_path / "0").select("iteration", "loss").rows()
    half = next(loss for iteration, loss in losses if iteration >= losses[-1][0] / 2)
    assert f"the loss went from {half:.3g} to {losses[-1][1]:.3g}" in notes["stalled"]
    # One that is merely slow is left in peace: at a tenth of the step, and long before the edge.
    assert noted(tmp_path / "slow", *job, "lr.eta=1e-3", "max_iterations=300000") == ("max_iterations", {})
    assert noted(tmp_path / "early", *job, "max_iterations=20000") == ("max_iterations", {})
    # Of one layer the sharpness is 1: a step of 2 goes to and fro for ever, above 2 it diverges.
    status, notes = noted(tmp_path / "linear", "factorization=linear", "lr.eta=2", "max_iterations=500")
    assert notes["stalled"].startswith("stalled at the edge of stability: the sharpness at the end, 1, is about 2/step")
    status, notes = noted(tmp_path / "no", "depth='3'", "lr.eta=0.7", "init.scale=1", "max_iterations=20000")
    assert (status, notes["stalled"]) == (
        "max_iterations",
        "stalled: the step size 0.7 exceeds 0.667, above which no solution is stable: an observation of size 1 makes "
        "their sharpness 3 or more",
    )


def test_note_does_not_depend_on_the_ensemble(tmp_path):
    jobs = [["depth='2'", "lr.eta=0.3", "init.scale=30", f"seed={seed}", "max_iterations=200"] for seed in range(3)]
    together = [outcome.summary["notes"] for outcome in trained(tmp_path / "all", *jobs)]
    assert len({note["diverged"] for note in together}) > 1
    assert together == [trained(tmp_path / str(i), job)[0].summary["notes"] for i, job in enumerate(jobs)]


def test_failing_sharpness_is_ignored_and_tables_have_no_hints(tmp_path, monkeypatch):
    def refuse(*args):
        raise RuntimeError("not differentiable twice")

    job = ["factorization=linear", "lr.eta=2.5", "max_iterations=2000"]
    run, _ = composed("logger=none", *job)
    module = EnsembleModule(Ensemble.of([run]))
    fit(module, ["digest"], tmp_path / "c.ckpt", None)
    assert EnsembleOutputs(module, ["digest"], 0.0).summary(0)["notes"] == {}
    monkeypatch.setattr(hints, "sharpness", refuse)
    status, notes = noted(tmp_path, *job)
    assert (status, "exceeds 2, above" in notes["diverged"], "at the start" in notes["diverged"]) == (
        "diverged",
        True,
        False,
    )
