"""Certificates on runs trained here, on traces tampered with, and bounds against searches over all matrices."""

import numpy as np
import pytest
import torch
from runs import trained
from scipy.optimize import minimize

from rankward import results
from rankward.config import ConfigError
from rankward.metrics.functional import schatten_norm
from rankward.theory import (
    Bound,
    Certificate,
    Conservation,
    Corollary1,
    Facts,
    Proposition4,
    Theorem1,
    Theorem2,
    dimensions_bound,
    distance_bound,
    effective_rank_bound,
    norm_bound,
    quasi_norm_constant,
)
from rankward.theory.certificates import verdict
from rankward.theory.statements import fitted_slope

FLOW = ["lr=flow", "init=balanced", "init.determinant=positive", "init.scale=1e-2"]


def facts(**changes):
    """Those of one balanced flow of depth 3 on Equation 6."""
    mask, values = np.array([[[False, True], [True, True]]]), np.array([[[0.0, 1.0], [1.0, 0.0]]])
    kept = {
        "depth": 3, "dynamics": "flow", "mask": mask, "values": values, "determinant": np.ones(1),
        "unbalancedness": np.zeros(1), "product": 1e-2 * np.eye(2)[None], "tolerance": np.full(1, 1e-10),
    }  # fmt: skip
    return Facts(**{**kept, **changes})


def sharp_trace(rows=200):
    """What a run that follows the theory would leave: W_12 = W_21 = 1 - s, the rest of the loss in W_22."""
    loss = np.geomspace(0.1, 1e-4, rows)
    w_22 = np.sqrt(2 * loss)
    w_11 = 1.001 / w_22
    product = np.stack([np.stack([w_11, np.ones(rows)], 1), np.stack([np.ones(rows), w_22], 1)], 1)
    values = np.linalg.svd(product, compute_uv=False)
    shares = values / values.sum(1, keepdims=True)
    return {
        "run": np.zeros(rows, int), "iteration": 50 * np.arange(rows), "loss": loss, "entry/0_0": w_11,
        "entry/0_1": np.ones(rows), "entry/1_0": np.ones(rows), "entry/1_1": w_22, "determinant/sign": np.ones(rows),
        "norm/nuclear": values.sum(1), "norm/spectral": values[:, 0], "norm/schatten_0.5": (values**0.5).sum(1) ** 2,
        "rank/effective": np.exp(-(shares * np.log(shares)).sum(1)), "rank/distance_to_infimal": values[:, 1],
        "balance/drift": np.full(rows, 1e-13),
    }  # fmt: skip


def test_equation_8s_constants_are_the_papers():
    """a = |e_1 e_1^T| / (sqrt(2) c), b = max(sqrt(2) a, 8 c^2 max |e_i e_j^T|), by hand for c = 1 and c = 2."""
    assert norm_bound(1e-2, 2) == pytest.approx(10 / np.sqrt(2) - 8)
    assert norm_bound(1e-6, 0.5) == pytest.approx(1000 / (2 * np.sqrt(2)) - 32)
    assert np.isinf(norm_bound(0.0, 1))
    assert effective_rank_bound(0.01) == pytest.approx(1 + 2 * np.sqrt(12) / np.log(2) / 10)
    assert distance_bound(0.01) == pytest.approx(0.3 * np.sqrt(2))


def test_the_margin_is_where_the_bound_says_something():
    trace = {"x": np.array([5.0, 5.0, 5.0]), "iteration": np.array([0, 50, 100])}
    for limits, margin, iteration in (([4.5 - 10, 0, 2], 3, 100), ([-1, -2, -3], 6, 0), ([-1, 6, 2], -1, 50)):
        found = verdict(Bound("x", np.array(limits, float), lower=True), trace)
        assert (found["margin"], found["iteration"]) == (margin, iteration)
    assert verdict(Bound("x", np.array([-1.0, 6.0, 7.0]), lower=False), trace)["iteration"] == 0  # violated at once


@pytest.mark.parametrize("p", [0.2, 0.5, 0.9, 1.0, 3.0])
def test_the_quasi_norms_constant_is_enough_and_needed(p):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(20_000, 2, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    ratio = schatten_norm(a + b, p) / (schatten_norm(a, p) + schatten_norm(b, p))
    assert ratio.max() <= quasi_norm_constant(p) * (1 + 1e-12)
    first, second = torch.diag(torch.tensor([1.0, 0.0])), torch.diag(torch.tensor([0.0, 1.0]))
    if p < 1:  # attained by orthogonal matrices of rank one
        tight = schatten_norm(first + second, p) / (schatten_norm(first, p) + schatten_norm(second, p))
        assert float(tight) == pytest.approx(quasi_norm_constant(p))


@pytest.mark.parametrize("size", [3, 5])
def test_no_matrix_of_appendix_e_is_below_its_bound(size):
    """Descent on |W_11| over all perturbations of the observed entries of one loss, from many starts."""
    target = np.eye(size)
    target[:2, :2] = [[0, 1], [1, 0]]
    loss, rng = 1e-3, np.random.default_rng(0)

    def entry(raw):
        error = np.insert(raw, 0, 0.0)
        error *= np.sqrt(2 * loss) / np.linalg.norm(error)
        w = target + error.reshape(size, size)
        minor = np.linalg.det(w[1:, 1:])
        zero = w.copy()
        zero[0, 0] = 0
        # det W = W_11 minor + det(W with 0 there) > 0: W_11 lies beyond the root, on the minor's side
        return abs(np.linalg.det(zero) / minor)

    least = min(
        minimize(entry, rng.standard_normal(size * size - 1), method="Nelder-Mead", options={"maxiter": 4000}).fun
        for _ in range(5)
    )
    assert dimensions_bound(loss) <= least < 1.2 * dimensions_bound(loss)
    assert np.isnan(dimensions_bound(0.5)) and np.isinf(dimensions_bound(0.0))


def test_a_run_that_follows_the_theory_holds_and_one_tampered_with_does_not():
    trace = sharp_trace()
    for certificate in (Theorem1(), Theorem2(), Corollary1(), Conservation()):
        found = certificate.verdicts(facts(), trace)
        assert found and {each["verdict"] for each in found.values()} == {"holds"}, found
    for name, factor in (("norm/spectral", 0.5), ("rank/effective", 3), ("rank/distance_to_infimal", 1e5)):
        tampered = {**trace, name: trace[name].copy()}
        tampered[name][150:] *= factor
        found = Theorem1().verdicts(facts(), tampered)
        violated = {key: each for key, each in found.items() if each["verdict"] == "violated"}
        assert list(violated) == [f"theorem_1/{name}"]
        assert violated[f"theorem_1/{name}"]["iteration"] >= 150 * 50 and violated[f"theorem_1/{name}"]["margin"] < 0
    shrunk = {**trace, "entry/0_0": 0.9 * trace["entry/0_0"]}
    assert Theorem2().verdicts(facts(), shrunk)["theorem_2/entry/0_0"]["verdict"] == "violated"
    flat = {**trace, "entry/0_0": trace["entry/0_0"] ** 0.5}
    found = Corollary1().verdicts(facts(), flat)
    assert found["corollary_1/entry/0_0"]["verdict"] == "violated"
    assert found["corollary_1/entry/0_0"]["slope"] == pytest.approx(-0.25, abs=0.01)
    missing = {**trace, "norm/nuclear": np.where(trace["iteration"] == 5000, np.nan, trace["norm/nuclear"])}
    assert Theorem1().verdicts(facts(), missing)["theorem_1/norm/nuclear"] == {
        "verdict": "violated", "margin": pytest.approx(np.nan, nan_ok=True), "iteration": 5000
    }  # fmt: skip
    turned = {**trace, "determinant/sign": np.where(trace["iteration"] < 5000, 1.0, -1.0)}
    assert Theorem2().verdicts(facts(), turned)["theorem_2"]["iteration"] == 5000
    drifted = {**trace, "balance/drift": np.full(200, 1e-8)}
    assert Conservation().verdicts(facts(), drifted)["conservation"]["verdict"] == "violated"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depth": 1}, "a depth of at least 2, not 1"),
        ({"determinant": -np.ones(1)}, "a positive determinant at the start"),
        ({"unbalancedness": np.full(1, 1e-3)}, "a balanced start"),
        ({"values": np.array([[[0.0, 1.0], [1.0, 0.1]]])}, "the observations of Equation 6"),
        ({"dynamics": "descent"}, "gradient flow"),
    ],
)
def test_the_premise_that_fails_is_named(changes, words):
    found = Theorem1().verdicts(facts(**changes), sharp_trace())
    assert {each["verdict"] for each in found.values()} == {"not applicable"}
    assert all(each["premise"].startswith(words) for each in found.values())
    if words.startswith("gradient flow"):  # what the rows show all the same
        assert found["theorem_1/norm/nuclear"]["seen"] == "holds"


def test_where_the_arithmetic_ends_nothing_is_claimed():
    trace = sharp_trace()
    trace["determinant/resolution"] = np.geomspace(1, 1e-12, 200)
    trace["norm/nuclear"][190:] = 0.0  # beyond, whatever happens is not the theory's
    found = Theorem1().verdicts(facts(), trace)["theorem_1/norm/nuclear"]
    assert found["verdict"] == "holds"
    assert found["until"] == trace["iteration"][np.argmax(trace["determinant/resolution"] < 1e-8)]


@pytest.mark.slow
def test_fifteen_balanced_flows_at_three_depths(tmp_path):
    """No violation, no missing column; Equations 8 to 10 once more from the traces, in plain NumPy."""
    for depth in (2, 3, 4):
        outcomes = trained(tmp_path / str(depth), *([*FLOW, f"depth='{depth}'", f"seed={s}"] for s in range(5)))
        for outcome in outcomes:
            verdicts = outcome.summary["certificates"]
            assert {v["verdict"] for v in verdicts.values()} <= {"holds", "not applicable"}, verdicts
            assert (
                verdicts["theorem_1/norm/nuclear"]["verdict"] == verdicts["theorem_2/entry/0_0"]["verdict"] == "holds"
            )
            assert verdicts["conservation"]["verdict"] == "holds"
            assert ("until" in verdicts["theorem_1/norm/nuclear"]) == (depth == 2)
            trace = results.read_trace(outcome.folder)
            names = ("norm/nuclear", "norm/frobenius", "norm/spectral", "norm/schatten_0.5", "rank/effective")
            assert {f"bound/{name}" for name in (*names, "rank/distance_to_infimal", "entry/0_0")} <= set(trace.columns)
            if depth == 2:
                trace = trace.filter(trace["iteration"] < verdicts["theorem_1/norm/nuclear"]["until"])
            root = np.sqrt(trace["loss"].to_numpy())
            assert (trace["norm/frobenius"].to_numpy() >= 1 / (np.sqrt(2) * root) - 8).all()
            assert (trace["norm/schatten_0.5"].to_numpy() >= 1 / (2 * np.sqrt(2) * root) - 32).all()
            assert (trace["rank/effective"].to_numpy() <= 1 + 2 * np.sqrt(12) / np.log(2) * root).all()
            assert (trace["rank/distance_to_infimal"].to_numpy() <= 3 * np.sqrt(2) * root).all()


def test_perturbed_and_repositioned_entries_have_their_own_bound(tmp_path):
    jobs = [
        [
            "observations=repositioned",
            f"observations.unobserved=[{i},{j}]",
            "observations.b_22=0.1",
            "observations.b_12=-2",
        ]
        for i in (0, 1)
        for j in (0, 1)
    ]
    signs = [["init.determinant=negative"], ["init.determinant=positive"]]
    runs = [[*FLOW, *job, *sign, "stop_loss=1e-2"] for job in jobs for sign in signs]
    for run, outcome in zip(runs, trained(tmp_path, *runs), strict=True):
        i, j = (int(c) for c in run[5].partition("[")[2][:3].split(","))
        found = {k: v for k, v in outcome.summary["certificates"].items() if k.startswith("theorem_2")}
        (name,) = found
        forced = (run[-2] == "init.determinant=negative") != ((i + j) % 2 == 1)  # sign(b_12 b_21) < 0, turned by a swap
        assert name == f"theorem_2/entry/{i}_{j}"
        assert found[name]["verdict"] == ("holds" if forced else "not applicable"), (run, found)
        if forced:
            assert found[name]["limit"] == pytest.approx(20.0)
        own = [c for c in results.read_trace(outcome.folder).columns if c.startswith("bound/entry")]
        assert own == ([f"bound/entry/{i}_{j}"] if forced or own else [])


def test_problems_without_a_determinant_get_a_sentence(tmp_path):
    runs = [["observations=dimensions", f"observations.dims=[{d}]", "max_iterations=100"] for d in ("4,6", "3,3")]
    wide, square = (trained(tmp_path / str(i), run)[0].summary["certificates"] for i, run in enumerate(runs))
    assert wide["theorem_2"]["premise"] == "a square matrix: a 4x6 one has no determinant"
    assert any(key.startswith("theorem_2") for key in square)
    random = ["observations=random_matrix", "observations.dims=[4,4]", "observations.rank=1", "observations.count=8"]
    (outcome,) = trained(tmp_path / "random", [*random, "max_iterations=100"])
    assert {v["verdict"] for v in outcome.summary["certificates"].values()} == {"not applicable"}
    sensed = ["observations=sensing", "observations.dims=[2,2]", "observations.rank=1", "observations.count=3"]
    (outcome,) = trained(tmp_path / "sensed", [*sensed, "max_iterations=100"])
    assert {v["verdict"] for v in outcome.summary["certificates"].values()} == {"not applicable"}


def test_proposition_4_is_checked_of_a_run(tmp_path):
    mine = "+metrics.certificates.proposition_4={_target_: rankward.theory.Proposition4}"
    runs = [["lr=flow", "init=identity", "depth='2'", "init.scale=0.1", mine]]
    (outcome,) = trained(tmp_path, *runs)
    assert outcome.summary["certificates"]["proposition_4"]["verdict"] == "holds"
    trace = {**sharp_trace(), "determinant/sign": -np.ones(200)}
    assert Proposition4().verdicts(facts(depth=2), trace)["proposition_4"]["verdict"] == "violated"
    assert "depth 2, not 3" in Proposition4().verdicts(facts(), trace)["proposition_4"]["premise"]


def test_a_certificate_of_ones_own_and_one_that_cannot_be_made(tmp_path):
    class Small(Certificate):
        name = "small"

        def bounds(self, facts, trace):
            return [Bound("norm/nuclear", np.full(len(trace["loss"]), 1.0), lower=False)]

        def failing(self, facts):
            return [None] * facts.runs

    trace = sharp_trace()
    assert Small().verdicts(facts(), trace)["small/norm/nuclear"]["verdict"] == "violated"
    with pytest.raises(ConfigError, match="conservation"):
        trained(tmp_path, ["metrics.certificates.conservation.tolerance=0"])


def test_slopes_are_numpys():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(50)
    y = 2 * x + rng.standard_normal(50)
    fit, covariance = np.polyfit(x, y, 1, cov=True)
    slope, error = fitted_slope(x, y)
    assert slope == pytest.approx(fit[0]) and error == pytest.approx(np.sqrt(covariance[0, 0]))


def test_margins_are_the_smallest():
    trace = {"x": np.array([2.0, 1.5, 3.0]), "iteration": np.array([0, 50, 100])}
    bound = Bound("x", np.array([1.0, 1.0, np.nan]), lower=True)
    assert verdict(bound, trace) == {"verdict": "holds", "margin": 0.5, "iteration": 50}
