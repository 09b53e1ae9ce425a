"""Where the determinant's sign is lost: flows in 66 digits, and ours beside them."""

import numpy as np
import pytest

from helpers.exact_flow import ExactFlow
from helpers.made_traces import facts
from helpers.runs import trained
from rankward import results
from rankward.factorizations.initialisation import Balanced, Between
from rankward.theory.determinants import protected

FLOW = ["lr=flow", "init.determinant=positive", "depth='2'"]


def start(init, seed):
    return [factor.numpy() for factor in init.draw((2, 2, 2), seed)]


@pytest.mark.parametrize(("unbalance", "seed"), [(1e-1, 0), (1e-3, 1), pytest.param(1e-6, 2, marks=pytest.mark.slow)])
def test_the_sign_turns_where_the_smallest_singular_values_meet_the_imbalance(unbalance, seed):
    """Weyl's inequality, at the first step after which the sign has turned; imbalance is conserved to 40 digits."""
    flow = ExactFlow(*start(Between(0.5, unbalance, "positive"), seed))
    at_first = flow.imbalance()
    while flow.sign > 0:
        before = max(smallest / largest for smallest, largest in flow.squares())
        flow.step(longest=0.05)
        assert flow.time < 1000
    assert abs(flow.imbalance() / at_first - 1) < 1e-40
    assert max(smallest for smallest, _ in flow.squares()) <= at_first
    size = max(largest for _, largest in flow.squares())
    assert 1e-3 * at_first / size < before < 2 * at_first / size  # it meets the imbalance, and not its square


def test_exact_balance_keeps_the_sign():
    """W_1 = W_2 = I / 2 is balanced to the last bit: |W_11| passes 8, the singular values' ratio 1e-7."""
    eye = [[0.5, 0.0], [0.0, 0.5]]
    flow = ExactFlow(eye, eye)
    flow.until(110.0)
    ratios = [float(smallest / largest) for smallest, largest in flow.squares()]
    assert flow.sign > 0 and flow.imbalance() < 1e-45
    assert flow.entry > 8 and max(ratios) < 1e-14


@pytest.mark.parametrize("scale", [pytest.param("1e-3", marks=pytest.mark.slow), "1"])
def test_exact_flow_keeps_its_sign_as_long_as_a_flow_is_judged(tmp_path, scale):
    jobs = [[*FLOW, "init=balanced", f"init.scale={scale}", f"lr.rtol={rtol}"] for rtol in ("1e-6", "1e-10", "1e-14")]
    ends = []
    for outcome in trained(tmp_path, *jobs):
        trace = results.read_trace(outcome.folder)
        until = outcome.summary["certificates"]["theorem_1/norm/nuclear"]["until"]
        time = float(trace.filter(trace["iteration"] == until)["time"][0])
        entry = float(trace.filter(trace["iteration"] == until)["entry/0_0"][0])
        flow = ExactFlow(*start(Balanced(float(scale), "positive"), 0))
        flow.until(time)
        assert flow.sign > 0
        assert entry == pytest.approx(flow.entry, rel=1e-3)
        ends.append(abs(entry))
    assert ends[0] < ends[1] < ends[2]  # a stricter tolerance is judged further


@pytest.mark.parametrize(
    "job",
    [
        *(["init=balanced", "init.scale=10", f"seed={seed}"] for seed in (1, 2, 5)),
        ["init=balanced", "init.scale=100", "seed=2"],
        ["init=balanced", "init.scale=1", "seed=15"],
        *(["init=balanced", f"lr.rtol={rtol}"] for rtol in ("1e-4", "1e-12", "1e-14")),
        pytest.param(["init=balanced", "factorization.hidden=3", "seed=0"], marks=pytest.mark.slow),
        ["init=balanced", "factorization.hidden=3", "seed=1"],
        pytest.param(["init=balanced", "factorization.hidden=5", "init.scale=1"], marks=pytest.mark.slow),
        ["init=balanced", "observations=dimensions", "observations.dims=[9,9]"],
        pytest.param(
            ["init=balanced", "observations=dimensions", "observations.dims=[3,3]", "init.scale=1"],
            marks=pytest.mark.slow,
        ),
        *(["init=between", f"init.unbalance={share}", "init.scale=1"] for share in ("1e-12", "1e-8", "1e-6")),
        ["init=balanced", "metrics.columns.resolution.largest=1"],
    ],
    ids=" ".join,
)
def test_no_theorem_is_violated_at_depth_2(tmp_path, job):
    (outcome,) = trained(tmp_path, [*FLOW, *job])
    verdicts = {name: each["verdict"] for name, each in outcome.summary["certificates"].items()}
    assert "violated" not in verdicts.values(), verdicts
    assert any(name.startswith("theorem_2") for name in verdicts)


@pytest.mark.parametrize(
    "job",
    [
        ["init.scale=100", "seed=2"],
        ["init.scale=1e4"],
        pytest.param(["factorization.hidden=4"], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_no_theorem_is_violated_at_depth_3(tmp_path, job):
    (outcome,) = trained(tmp_path, ["lr=flow", "init=balanced", "init.determinant=positive", "stop_loss=1e-3", *job])
    verdicts = {name: each["verdict"] for name, each in outcome.summary["certificates"].items()}
    assert "violated" not in verdicts.values(), verdicts


@pytest.mark.slow
def test_no_theorem_is_violated_in_a_grid(tmp_path):
    jobs = [
        ["lr=flow", "init=balanced", "init.determinant=positive", "stop_loss=1e-3", f"init.scale={scale}", f"seed={seed}",
         f"depth='{depth}'", f"lr.rtol={rtol}"]
        for depth in (2, 3) for scale in ("1e-6", "1e-2", "1", "10", "100") for seed in range(8)
        for rtol in ("1e-4", "1e-8", "1e-10", "1e-13")
    ]  # fmt: skip
    judged = 0
    for depth in (2, 3):
        some = [job for job in jobs if job[6] == f"depth='{depth}'"]
        for outcome in trained(tmp_path / str(depth), *some):
            verdicts = {name: each["verdict"] for name, each in outcome.summary["certificates"].items()}
            assert "violated" not in verdicts.values(), (outcome.folder, verdicts)
            judged += verdicts["theorem_2/entry/0_0"] == "holds"
    assert judged > len(jobs) / 2


def made(sign, ratio, **columns):
    rows = len(sign)
    return {"iteration": 50 * np.arange(rows), "loss": np.full(rows, 0.1), "determinant/sign": np.array(sign, float),
            "determinant/resolution": np.array(ratio, float), **columns}  # fmt: skip


def test_a_sign_that_turns_far_above_the_imbalance_is_a_violation():
    assert protected(facts(), made([1, 1, -1, -1], [0.5, 0.3, 0.2, 0.3]), 1.0).violated == 2
    near = protected(facts(), made([1, 1, -1, -1], [0.5, 2e-5, 5e-5, 0.1]), 1.0)
    assert (near.rows, near.violated, near.note["until"]) == (2, None, 100)
    drifting = made([1, 1, -1, -1], [0.5, 0.03, 0.05, 0.1], **{"balance/drift": np.full(4, 1e-3)})
    assert protected(facts(), drifting, 1.0).violated is None


@pytest.mark.parametrize(
    ("changes", "threshold"),
    [
        ({}, 1e-5),
        ({"tolerance": np.full(1, 1e-18)}, np.finfo(float).eps ** 0.5),
        ({"tolerance": np.full(1, 1e-18), "unbalancedness": np.full(1, 1e-13)}, 1e-13**0.5),
        ({"tolerance": np.full(1, 1e-18), "square": False}, (100 * np.finfo(float).eps) ** (1 / 3)),
    ],
)
def test_the_threshold_is_the_root_of_the_imbalance(changes, threshold):
    ratios = threshold * np.array([4.0, 1.1, 0.9, 0.5])
    assert protected(facts(**changes), made([1, 1, 1, 1], ratios), 1.0).rows == 2


@pytest.mark.parametrize("name", ["Residual", "Reversed"])
def test_custom_factorization_has_the_sign_of_its_product(tmp_path, name):
    """Its factors are square, and W is not W_L ... W_1: no statement on chains applies, and none is violated."""
    own = [f"factorization._target_=helpers.own_factorizations.{name}", "depth='2'", "init=gaussian", "lr.eta=0.05"]
    jobs = [[*own, "init.scale=0.5", "max_iterations=100", f"seed={seed}"] for seed in range(6)]
    turned = 0
    for outcome in trained(tmp_path, *jobs):
        trace, arrays = results.read_trace(outcome.folder), results.read_factors(outcome.folder)
        factors = [np.asarray(arrays[f"final.{i}"]) for i in (0, 1)]
        product = np.asarray(arrays["product"])
        expected = (
            (np.eye(2) + factors[1]) @ (np.eye(2) + factors[0]) if name == "Residual" else factors[0] @ factors[1]
        )
        assert product == pytest.approx(expected, abs=1e-12)
        assert trace["determinant/sign"][-1] == np.sign(np.linalg.det(product))
        values = np.linalg.svd(product, compute_uv=False)
        assert trace["determinant/resolution"][-1] == pytest.approx(values[1] / values[0])
        turned += trace["determinant/sign"][-1] != np.prod([np.sign(np.linalg.det(factor)) for factor in factors])
        verdicts = outcome.summary["certificates"]
        assert "violated" not in {each["verdict"] for each in verdicts.values()}, verdicts
        assert outcome.summary["engine"] == "fused"
        flows = [each for key, each in verdicts.items() if key.startswith(("theorem_1", "corollary_1"))]
        assert {each["verdict"] for each in flows} == {"not applicable"}
    assert (turned > 0) == (name == "Residual")
