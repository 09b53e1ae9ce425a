"""Certificates on runs trained here, on traces tampered with, and bounds against searches over all matrices."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from helpers.made_traces import facts, sharp_trace
from helpers.runs import trained
from rankward import results
from rankward.config import ConfigError
from rankward.metrics import DepthSchattenNorm, ParameterNorm, measure
from rankward.metrics.functional import schatten_norm
from rankward.theory import (
    Bound,
    Certificate,
    Conservation,
    Corollary1,
    LeastParameters,
    Proposition4,
    Theorem1,
    Theorem2,
    dimensions_bound,
    distance_bound,
    effective_rank_bound,
    norm_bound,
    quasi_norm_constant,
    robustness_bound,
)
from rankward.theory.bounds import least_norm
from rankward.theory.certificates import verdict

FLOW = ["lr=flow", "init=balanced", "init.determinant=positive", "init.scale=1e-2"]


def test_equation_8s_constants_are_the_papers():
    """a = |e_1 e_1^T| / (sqrt(2) c), b = max(sqrt(2) a, 8 c^2 max |e_i e_j^T|), by hand for c = 1 and c = 2."""
    assert norm_bound(1e-2, 2) == pytest.approx(10 / np.sqrt(2) - 8)
    assert norm_bound(1e-6, 0.5) == pytest.approx(1000 / (2 * np.sqrt(2)) - 32)
    assert np.isinf(norm_bound(0.0, 1))
    assert effective_rank_bound(0.01) == pytest.approx(1 + 2 * np.sqrt(12) / np.log(2) / 10)
    assert distance_bound(0.01) == pytest.approx(0.3 * np.sqrt(2))


def test_the_margin_is_of_rows_that_could_have_failed():
    trace = {"x": np.array([5.0, 5.0, 5.0]), "iteration": np.array([0, 50, 100])}
    for limits, margin, iteration, rows in (
        ([-5.5, 0, 2], 3, 100, 1),
        ([-1, 1, 3], 2, 100, 2),
        ([-1, 6, 2], -1, 50, 2),
    ):
        found = verdict(Bound("x", np.array(limits, float), lower=True, trivial=0.0), trace)
        assert (found["margin"], found["iteration"], found["rows"]) == (margin, iteration, rows)
    assert verdict(Bound("x", np.array([-1.0, 6.0, 7.0]), lower=False), trace)["iteration"] == 0  # violated at once
    for bound in (
        Bound("x", np.array([-1.0, -2.0, 0.0]), lower=True, trivial=0.0),
        Bound("x", np.array([6.0, 7.0, 8.0]), lower=False, trivial=np.array([6.0, 5.0, 8.0])),
        Bound("x", np.full(3, np.nan), lower=True),
    ):
        found = verdict(bound, trace)
        assert found["verdict"] == "says nothing here" and found["reason"] and "margin" not in found
        assert verdict(bound, trace, "a premise")["verdict"] == "not applicable"


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0, 3.0, np.inf])
@pytest.mark.parametrize("loss", [1e-4, 1e-2, 0.3])
def test_no_matrix_of_a_loss_has_a_smaller_norm_than_the_trivial_one(p, loss):
    """For p >= 1 over all matrices of that loss, by random search; for any p some matrix of that loss has that norm."""
    root = np.sqrt(loss)
    least = least_norm(loss, p)
    values = np.array([1 - root, 1 - root])
    attained = values.max() if np.isinf(p) else (values**p).sum() ** (1 / p)
    assert least == pytest.approx(attained) and least_norm(1.5, p) == 0
    if p >= 1:
        rng = np.random.default_rng(0)
        error = rng.standard_normal((200_000, 3))
        error *= np.sqrt(2 * loss) / np.linalg.norm(error, axis=1, keepdims=True)
        w = np.zeros((len(error), 2, 2))
        w[:, 0, 0] = 0.1 * rng.standard_normal(len(error))
        w[:, 0, 1], w[:, 1, 0], w[:, 1, 1] = 1 + error[:, 0], 1 + error[:, 1], error[:, 2]
        norms = schatten_norm(torch.from_numpy(w), p).numpy()
        assert least * (1 - 1e-12) <= norms.min() < least * 1.01


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
        expected = {
            name: "says nothing here" if name.startswith("corollary_1/rank") else "holds" for name in found
        }  # a rank that is near 1 from the first row on did not have to fall
        assert found and {name: each["verdict"] for name, each in found.items()} == expected, found
    for name, factor in (("norm/spectral", 0.5), ("rank/effective", 3), ("rank/distance_to_infimal", 1e5)):
        tampered = {**trace, name: trace[name].copy()}
        tampered[name][150:] *= factor
        found = Theorem1().verdicts(facts(), tampered)
        violated = {key: each for key, each in found.items() if each["verdict"] == "violated"}
        assert list(violated) == [f"theorem_1/{name}"]
        assert violated[f"theorem_1/{name}"]["iteration"] >= 150 * 50 and violated[f"theorem_1/{name}"]["margin"] < 0
    shrunk = {**trace, "entry/0_0": 0.9 * trace["entry/0_0"]}
    assert Theorem2().verdicts(facts(), shrunk)["theorem_2/entry/0_0"]["verdict"] == "violated"
    for name, factor in (("rank/effective", 1.1), ("rank/distance_to_infimal", 1e5)):
        raised = {**trace, name: factor * trace[name]}
        assert Theorem2().verdicts(facts(), raised)[f"theorem_2/{name}"]["verdict"] == "violated"
    flat = {**trace, "entry/0_0": trace["entry/0_0"] ** 0.5}
    found = Corollary1().verdicts(facts(), flat)
    assert found["corollary_1/entry/0_0"]["verdict"] == "violated"
    assert found["corollary_1/entry/0_0"]["slope"] == pytest.approx(-0.25, abs=0.01)
    stuck = {**trace, "rank/effective": np.full(200, 1.5), "rank/distance_to_infimal": np.full(200, 0.3)}
    found = Corollary1().verdicts(facts(), stuck)
    assert {found[f"corollary_1/rank/{name}"]["verdict"] for name in ("effective", "distance_to_infimal")} == {
        "violated"
    }
    missing = {**trace, "norm/nuclear": np.where(trace["iteration"] == 5000, np.nan, trace["norm/nuclear"])}
    found = Theorem1().verdicts(facts(), missing)["theorem_1/norm/nuclear"]
    assert (found["verdict"], found["iteration"]) == ("violated", 5000) and np.isnan(found["margin"])
    turned = {**trace, "determinant/sign": np.where(trace["iteration"] < 5000, 1.0, -1.0)}
    assert Theorem2().verdicts(facts(), turned)["theorem_2"]["iteration"] == 5000
    drifted = {**trace, "balance/drift": np.full(200, 1e-8)}
    assert Conservation().verdicts(facts(), drifted)["conservation"]["verdict"] == "violated"
    loose = facts(tolerance=np.full(1, 1e-8))
    assert Conservation().verdicts(loose, drifted)["conservation"]["verdict"] == "holds"
    none = facts(tolerance=np.full(1, 0.1))
    assert Conservation().verdicts(none, drifted)["conservation"]["verdict"] == "says nothing here"
    assert Conservation(1e-9).verdicts(loose, drifted)["conservation"]["verdict"] == "violated"


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


@pytest.mark.parametrize("level", [2.0, 20.0, 60.0])
def test_noise_about_a_constant_is_no_growth(level):
    """A norm that stays where it is, with noise: violated below what the last loss forces (158), never `holds`."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        trace = sharp_trace()
        trace["norm/nuclear"] = level * np.exp(0.3 * rng.standard_normal(200))
        found = Corollary1().verdicts(facts(), trace)["corollary_1/norm/nuclear"]
        assert found["verdict"] == "violated"
    trace["norm/nuclear"] = 1000 * np.exp(0.3 * rng.standard_normal(200))  # a large norm did not have to grow
    assert Corollary1().verdicts(facts(), trace)["corollary_1/norm/nuclear"]["verdict"] == "says nothing here"


def test_a_rank_that_had_to_fall_and_did():
    trace = sharp_trace()
    for name, limit in (("rank/distance_to_infimal", 0.0), ("rank/effective", 1.0)):
        trace[name] = limit + 2 * np.sqrt(trace["loss"])
        found = Corollary1().verdicts(facts(), trace)[f"corollary_1/{name}"]
        assert found["verdict"] == "holds" and found["slope"] == pytest.approx(0.5)
        fallen = {**trace, name: np.where(trace["loss"] < 1e-3, limit, trace[name])}  # to its infimum, exactly
        found = Corollary1().verdicts(facts(), fallen)[f"corollary_1/{name}"]
        assert found["verdict"] == "holds" and "slope" not in found
        assert 1e-3 <= found["at_limit_below"] == trace["loss"][trace["loss"] >= 1e-3].min()
        found = Corollary1().verdicts(facts(), {**trace, name: np.full(200, limit)})[f"corollary_1/{name}"]
        assert found["verdict"] == "says nothing here"  # there from the start


def test_beyond_the_protection_of_balance_nothing_is_claimed():
    trace = sharp_trace()
    trace["determinant/resolution"] = np.geomspace(1, 1e-7, 200)
    trace["norm/nuclear"][190:] = 0.0
    found = Theorem1().verdicts(facts(), trace)["theorem_1/norm/nuclear"]
    assert found["verdict"] == "holds"
    assert found["until"] == trace["iteration"][np.argmax(trace["determinant/resolution"] < 1e-5)]
    trace["determinant/resolution"] = np.geomspace(1e-3, 1e-12, 200)
    found = Theorem1().verdicts(facts(), trace)
    assert {found[f"theorem_1/{name}"]["verdict"] for name in ("norm/nuclear", "norm/spectral", "rank/effective")} == {
        "says nothing here"
    }


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rounding_of_the_sharp_bound_is_no_violation(dtype):
    """A matrix on the bound, its entries and its loss rounded: the margin is within the rounding; 1 % is not."""
    eps = float(np.finfo(dtype).eps)
    trace = sharp_trace()
    trace["entry/0_0"] = robustness_bound(trace["loss"]) * (1 - 2 * eps * robustness_bound(trace["loss"]) ** 2)
    assert Theorem2().verdicts(facts(rounding=eps), trace)["theorem_2/entry/0_0"]["verdict"] == "holds"
    trace["entry/0_0"] *= 0.99
    assert Theorem2().verdicts(facts(rounding=eps), trace)["theorem_2/entry/0_0"]["verdict"] == "violated"


@pytest.mark.slow
def test_fifteen_balanced_flows_at_three_depths(tmp_path):
    """No violation, no missing column; Equations 8 to 10 once more from the traces, in plain NumPy."""
    for depth in (2, 3, 4):
        outcomes = trained(tmp_path / str(depth), *([*FLOW, f"depth='{depth}'", f"seed={s}"] for s in range(5)))
        for outcome in outcomes:
            verdicts = outcome.summary["certificates"]
            assert {v["verdict"] for v in verdicts.values()} <= {"holds", "says nothing here"}, verdicts
            assert verdicts["theorem_2/entry/0_0"]["verdict"] == "holds"
            assert verdicts["theorem_1/norm/nuclear"]["verdict"] == ("says nothing here" if depth == 2 else "holds")
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
        (name,) = (name for name in found if "/rank/" not in name)
        ranks = {each["verdict"] for part, each in found.items() if "/rank/" in part}
        forced = (run[-2] == "init.determinant=negative") != ((i + j) % 2 == 1)  # sign(b_12 b_21) < 0, turned by a swap
        assert name == f"theorem_2/entry/{i}_{j}"
        assert found[name]["verdict"] == ("holds" if forced else "not applicable"), (run, found)
        assert ranks == ({"holds"} if forced else {"not applicable"} if ranks else set())
        if forced:
            assert found[name]["limit"] == pytest.approx(20.0)
        own = [c for c in results.read_trace(outcome.folder).columns if c.startswith("bound/entry")]
        assert own == ([f"bound/entry/{i}_{j}"] if forced else [])


@pytest.mark.slow
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
    start = facts(depth=2)
    trace = sharp_trace()
    assert Proposition4().verdicts(start, trace)["proposition_4"]["verdict"] == "holds"
    for column, changed in (
        ("determinant/sign", np.append(np.ones(100), -np.ones(100))),
        ("loss", np.append(trace["loss"][:-1], 5.0)),
        ("loss", np.append(trace["loss"][:100], trace["loss"][:100])),
        ("entry/0_1", 1.1 * trace["entry/0_1"]),
        ("entry/0_0", -trace["entry/0_0"]),
    ):
        found = Proposition4().verdicts(start, {**trace, column: changed})["proposition_4"]
        assert found["verdict"] == "violated" and found["reason"], column
    early = {name: column[:0] if name == "x" else column[:1] for name, column in trace.items()}
    early["loss"] = np.array([0.9])
    assert Proposition4().verdicts(start, early)["proposition_4"]["verdict"] == "says nothing here"
    assert "depth 2, not 3" in Proposition4().verdicts(facts(), trace)["proposition_4"]["premise"]


def test_custom_certificate_and_one_that_cannot_be_built(tmp_path):
    class Small(Certificate):
        name = "small"

        def bounds(self, facts, trace):
            return [Bound("norm/nuclear", np.full(len(trace["loss"]), 1.0), lower=False)]

        def failing_premises(self, facts):
            return [None] * facts.runs

    trace = sharp_trace()
    assert Small().verdicts(facts(), trace)["small/norm/nuclear"]["verdict"] == "violated"
    with pytest.raises(ConfigError, match="conservation"):
        trained(tmp_path, ["metrics.certificates.conservation.tolerance=0"])


def test_margins_are_the_smallest():
    trace = {"x": np.array([2.0, 1.5, 3.0]), "iteration": np.array([0, 50, 100])}
    bound = Bound("x", np.array([1.0, 1.0, np.nan]), lower=True)
    assert verdict(bound, trace) == {"verdict": "holds", "margin": 0.5, "iteration": 50, "rows": 2}


LEAST = "least_parameters/norm/parameters"


@pytest.mark.parametrize("layers", [1, 2, *(pytest.param(layers, marks=pytest.mark.slow) for layers in (3, 6))])
def test_balanced_parameters_are_the_least_and_unbalanced_ones_are_more(tmp_path, layers):
    """The margin is recomputed from the final factors in NumPy; balanced it is 0 up to rounding and finite steps."""
    job = [f"depth.layers={layers}", "metrics=parameters", "max_iterations=3000", "lr.eta=1e-3", "init.scale=0.5"]
    job += ["observations=random_matrix", "observations.dims=[4,3]", "observations.count=8"]
    outcomes = trained(tmp_path, *([*job, f"init={init}"] for init in ("balanced", "gaussian")))
    for folder, outcome in zip("01", outcomes, strict=True):
        found = outcome.summary["certificates"][LEAST]
        assert found["verdict"] == "holds" and found["margin"] >= -1e-9
        arrays, trace = results.read_arrays(tmp_path / folder), results.read_trace(tmp_path / folder)
        factors = [np.asarray(arrays[f"final.{layer}"]) for layer in range(layers)]
        total = sum((factor**2).sum() for factor in factors)
        values = np.linalg.svd(np.linalg.multi_dot(factors[::-1]) if layers > 1 else factors[0], compute_uv=False)
        least = layers * (values ** (2 / layers)).sum()
        assert trace["norm/parameters"][-1] ** 2 == pytest.approx(total, rel=1e-13)
        assert trace["bound/norm/parameters"][-1] ** 2 == pytest.approx(least, rel=1e-6)
        balanced = folder == "0" or layers == 1
        assert (total / least - 1 < 1e-3) == balanced
        assert (found["margin"] < 1e-9) == balanced or layers == 1


@pytest.mark.parametrize("layers", [2, 4, 6])
def test_singular_values_of_rounding_alone_do_not_violate_the_least_parameters(layers):
    """Balanced factors of rank 1: the product's other singular values should be 0, and are rounding errors."""
    random = np.random.default_rng(layers)
    bases = [np.linalg.qr(random.standard_normal((8, 1)))[0] for _ in range(layers + 1)]
    factors = [torch.from_numpy(0.7 * above @ below.T)[None] for below, above in itertools.pairwise(bases)]
    columns = measure({"a": ParameterNorm(), "b": DepthSchattenNorm()}, factors)
    trace = {name: column.numpy() for name, column in columns.items()} | {"iteration": np.zeros(1, int)}
    context = facts(depth=layers, product=np.zeros((1, 8, 8)), mask=None)
    assert LeastParameters().verdicts(context, trace)[LEAST]["verdict"] == "holds"
    assert trace["norm/parameters"][0] == pytest.approx(0.7 * layers**0.5)
    trace["norm/parameters"] = trace["norm/parameters"] * (1 - 1e-3)
    assert LeastParameters().verdicts(context, trace)[LEAST]["verdict"] == "violated"


def test_least_parameters_need_a_chain_and_leave_other_statements_alone(tmp_path):
    job = ["metrics=parameters", "max_iterations=300"]
    (outcome,) = trained(tmp_path, [*job, "factorization=symmetric"])
    found = outcome.summary["certificates"]["least_parameters"]
    assert found["verdict"] == "not applicable" and "product of its factors" in found["premise"]
    trace = results.read_trace(tmp_path / "0")
    assert "norm/parameters" in trace.columns and "norm/schatten_2_over_L" not in trace.columns
    (both,) = trained(tmp_path / "with", [*FLOW, *job, "depth='3'"])
    (plain,) = trained(tmp_path / "without", [*FLOW, "max_iterations=300", "depth='3'"])
    del both.summary["certificates"][LEAST]
    assert str(both.summary["certificates"]) == str(plain.summary["certificates"])
