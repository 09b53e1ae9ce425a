"""Flow through training: the same bytes alone, in company and after an interruption; verdicts where users read them."""

import numpy as np
import pytest

from helpers.commands import wandb_records
from helpers.made_traces import facts
from helpers.runs import contents, interrupted_after, trained
from rankward import results
from rankward.theory import Conservation

FLOW = ["lr=flow", "init=balanced", "init.scale=1e-3", "init.determinant=positive"]


def test_bytes_do_not_depend_on_the_ensemble(tmp_path):
    """Company with other tolerances, observations and starts: what a bound says of one leaves no column in another."""
    own = ["observations.b_22=0.1", "observations.b_22=0", "observations.b_12=-1", "observations.unobserved=[1,0]"]
    jobs = [[*FLOW, "stop_loss=1e-2", f"seed={s}", f"lr.rtol=1e-{6 + s}", own[s]] for s in range(4)]
    trained(tmp_path / "together", *jobs)
    for seed, job in enumerate(jobs):
        trained(tmp_path / f"alone{seed}", job)
        assert contents(tmp_path / f"alone{seed}" / "0") == contents(tmp_path / "together" / str(seed))
        summaries = [results.read_summary(tmp_path / d) for d in (f"alone{seed}/0", f"together/{seed}")]
        np.testing.assert_equal(summaries[0]["certificates"], summaries[1]["certificates"])


@pytest.mark.parametrize("chunks", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_interrupted_flow_resumes_to_the_same_bits(tmp_path, monkeypatch, chunks):
    jobs = [[*FLOW, f"seed={seed}"] for seed in range(2)]
    trained(tmp_path / "whole", *jobs)
    with monkeypatch.context() as patched:
        interrupted_after(patched, chunks)
        outcomes = trained(tmp_path / "parts", *jobs)
    assert {outcome.status for outcome in outcomes} == {"interrupted"}
    assert results.read_trace(tmp_path / "parts" / "0")["time"][-1] > 0
    trained(tmp_path / "parts", *jobs, ckpt_path=tmp_path / "parts" / "0" / results.CHECKPOINT)
    for i in range(2):
        assert contents(tmp_path / "parts" / str(i)) == contents(tmp_path / "whole" / str(i))


def test_the_trace_has_time_and_ends_on_the_stop(tmp_path):
    (outcome,) = trained(tmp_path, [*FLOW, "stop_loss=3e-3"])
    trace = results.read_trace(tmp_path / "0")
    assert outcome.status == "converged" and trace.columns[:3] == ["iteration", "loss", "time"]
    assert (np.diff(trace["time"].to_numpy()) > 0).all() and trace["time"][0] == 0
    assert (np.diff(trace["loss"].to_numpy()) <= 0).all()  # of a flow it never rises
    assert 0 < 1 - trace["loss"][-1] / 3e-3 <= 1e-10
    assert trace["balance/drift"].max() < 1e-10
    assert outcome.summary["stop"]["check_every"] == 1


def decaying(tmp_path, *more):
    """A flow with weight decay on a symmetric 2x2 matrix, all of it observed, and its trace."""
    np.save(tmp_path / "y.npy", np.array([[1.5, 0.5], [0.5, 1.5]]))
    words = ["observations=file", f"observations.path={tmp_path / 'y.npy'}", "optimizer.weight_decay=0.25", "lr=flow"]
    (outcome,) = trained(tmp_path, [*words, "metrics=decay", "engine=reference", "stop_loss=0", *more])
    return outcome, results.read_trace(tmp_path / "0")


def test_weight_decay_shrinks_singular_values_to_their_fixed_points(tmp_path):
    words = ["depth='2'", "init=identity", "init.scale=1e-1", "lr.max_time=40", "lr.rtol=1e-7"]
    outcome, trace = decaying(tmp_path, *words)
    found = {name: each["verdict"] for name, each in outcome.summary["certificates"].items()}
    assert found["shrinkage"] == found["conservation"] == "holds"
    last = [trace[f"singular_value/{k}"][-1] for k in (0, 1)]
    np.testing.assert_allclose(last, [2 - 0.25, 1 - 0.25], rtol=1e-7)  # the soft threshold
    assert (np.diff(trace["loss"].to_numpy()) <= 1e-6).all() and trace["loss"][-1] == pytest.approx(0.0625)


def test_weight_decay_makes_differences_fall_exponentially(tmp_path):
    words = ["depth='3'", "init=gaussian", "init.scale=1", "lr.max_time=6", "seed=3", "lr.rtol=1e-7"]
    outcome, trace = decaying(tmp_path, *words)
    found = outcome.summary["certificates"]["conservation"]
    assert found["verdict"] == "holds" and found["tolerance"] < 2e-6
    fallen = trace["balance/unbalancedness"][0] * np.exp(-0.5 * trace["time"].to_numpy())
    np.testing.assert_allclose(trace["balance/unbalancedness"].to_numpy(), fallen, rtol=1e-6)
    assert fallen[-1] < 0.06 * fallen[0]
    context = facts(dynamics="decaying_flow", decay=np.full(1, 0.25), tolerance=np.full(1, 1e-7))
    tampered = {name: trace[name].to_numpy().copy() for name in ("iteration", "loss", "balance/drift")}
    tampered["balance/drift"][7] = 1e-4
    found = Conservation().verdicts(context, tampered)["conservation"]
    assert (found["verdict"], found["iteration"]) == ("violated", trace["iteration"][7])


def test_time_may_run_out(tmp_path):
    (outcome,) = trained(tmp_path, [*FLOW, "lr.max_time=7.5"])
    assert outcome.status == "max_time" and results.is_complete(tmp_path / "0") and not outcome.failed
    assert results.read_trace(tmp_path / "0")["time"][-1] == 7.5


def test_verdicts_reach_wandb(tmp_path):
    (outcome,) = trained(tmp_path, [*FLOW, "stop_loss=4e-3"], logger="wandb")
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    records = wandb_records(run)
    updates = [record["summary"]["update"] for record in records if record["type"] == "summary"]
    (found,) = [update["certificates"] for update in updates if "certificates" in update]
    assert (
        found["theorem_1/norm/nuclear"]["verdict"]
        == "holds"
        == outcome.summary["certificates"]["conservation"]["verdict"]
    )
    rows = [record["history"]["item"] for record in records if record["type"] == "history"]
    assert {"bound/norm/nuclear", "bound/rank/effective", "bound/entry/0_0", "time"} <= set(rows[-1])


def test_tensors_and_sensing_flow_too(tmp_path):
    tensor = [
        "factorization=tensor",
        "observations=tensor_order3",
        "observations.dims=[3,3,4]",
        "observations.count=30",
    ]
    (outcome,) = trained(
        tmp_path / "t", [*tensor, "factorization.components=8", "metrics=tensor", "lr=flow", "init.scale=1e-1"]
    )
    assert outcome.status == "converged" and outcome.summary["certificates"]["conservation"]["verdict"] == "holds"
    sensed = ["observations=sensing", "observations.dims=[4,4]", "observations.rank=1", "observations.count=10"]
    (outcome,) = trained(tmp_path / "s", [*sensed, "lr=flow", "init.scale=0.1", "stop_loss=1e-1"])
    assert outcome.status == "converged" and outcome.summary["engine"] == "fused"
    assert outcome.summary["certificates"]["conservation"]["verdict"] == "holds"


def test_baseline_solution_from_a_file(tmp_path):
    np.save(tmp_path / "mine.npy", np.array([[2.0, 1.0], [1.0, 0.5]]))
    mine = f"+metrics.columns.mine={{_target_: rankward.metrics.DistanceToSolution, solution: {tmp_path}/mine.npy, label: mine}}"
    (outcome,) = trained(tmp_path, ["metrics=completion", "max_iterations=1000", "init.scale=0.5", mine])
    product = results.read_arrays(tmp_path / "0")["product"]
    measured = outcome.summary["metrics"]
    assert measured["distance/mine_solution"] == pytest.approx(np.linalg.norm(product - [[2, 1], [1, 0.5]]))
    assert measured["distance/nuclear_solution"] == pytest.approx(np.linalg.norm(product - [[0, 1], [1, 0]]), abs=1e-4)
    assert measured["ratio/nuclear_norm_to_nuclear"] == pytest.approx(np.linalg.norm(product, "nuc") / 2, rel=1e-6)
    assert measured["rival/frobenius_effective_rank"] == pytest.approx(2.0) and "rival/mine_error" not in measured
