"""Laws of motion on traces of SciPy's flow and of NumPy's descent, and on traces tampered with."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from helpers.made_traces import facts
from rankward.metrics import (
    ChainSingularValues,
    ComponentMotion,
    ComponentNorms,
    LocalComponentMotion,
    LocalComponentNorms,
    SingularValueMotion,
    measure,
)
from rankward.mode_tree import mode_tree
from rankward.theory import LawOfMotion, SpeedBounds

TREE = mode_tree("neighbours", 4)
RANDOM = np.random.default_rng(3)


class Problem:
    """A fully observed problem: shapes of factors, the product by einsum, and the loss's half sum."""

    decay = 0.0

    def __init__(self, shapes, text, dims, size, metrics, scale=0.4):
        self.shapes, self.text, self.dims, self.metrics = shapes, text, dims, metrics
        self.truth = size * RANDOM.standard_normal(dims) / np.sqrt(np.prod(dims))
        self.start = np.concatenate([scale * RANDOM.standard_normal(shape).ravel() for shape in shapes])

    def split(self, flat):
        ends = np.cumsum([np.prod(shape, dtype=int) for shape in self.shapes])[:-1]
        return [part.reshape(shape) for part, shape in zip(np.split(flat, ends), self.shapes, strict=True)]

    def field(self, _, flat):
        factors = self.split(flat)
        inputs, output = self.text.split("->")
        names = inputs.split(",")
        residual = self.truth - np.einsum(self.text, *factors)
        found = []
        for place, name in enumerate(names):
            others = [each for each in range(len(names)) if each != place]
            text = ",".join([output, *(names[each] for each in others)]) + f"->{name}"
            found.append(np.einsum(text, residual, *(factors[each] for each in others)).ravel())
        return np.concatenate(found) - self.decay * flat

    def trace(self, flats, iteration, time):
        each = [self.split(flat) for flat in flats]
        factors = [torch.from_numpy(np.stack(rows)) for rows in zip(*each, strict=True)]
        product = torch.from_numpy(np.stack([np.einsum(self.text, *rows) for rows in each]))
        columns = measure(
            self.metrics, factors, lambda _: product, True, tree=TREE,
            negative_gradient=lambda rows: lambda made: torch.from_numpy(self.truth) - made,
        )  # fmt: skip
        loss = (product.numpy() - self.truth).reshape(len(flats), -1) ** 2
        rows = {"iteration": iteration, "time": time, "loss": loss.sum(1) / 2}
        return rows | {name: column.numpy() for name, column in columns.items()}

    def flow(self, end, rows=161):
        time = np.linspace(0, end, rows)
        solved = solve_ivp(self.field, (0, end), self.start, "DOP853", t_eval=time, rtol=1e-10, atol=1e-12)
        return self.trace(solved.y.T, np.arange(rows), time)

    def descent(self, eta, steps, every):
        flat, kept = self.start, []
        for step in range(steps + 1):
            if step % every == 0:
                kept.append(flat)
            flat = flat + eta * self.field(0, flat)
        iteration = every * np.arange(len(kept))
        return self.trace(kept, iteration, eta * iteration)


CP = Problem([(3, 2), (4, 2), (3, 2)], "ar,br,cr->abc", (3, 4, 3), 3.0, {"n": ComponentNorms(), "m": ComponentMotion()})
HIERARCHICAL = Problem(
    [(2, 2)] * 4 + [(2, 2)] * 2 + [(2,)], "ar,br,ct,dt,rs,ts,s->abcd", (2, 2, 2, 2), 3.0,
    {"n": LocalComponentNorms(), "m": LocalComponentMotion()}, scale=0.7,
)  # fmt: skip
CHAIN = Problem([(3, 3), (3, 3)], "ba,cb->ca", (3, 3), 3.0, {"n": ChainSingularValues(), "m": SingularValueMotion()})
SCALED = (np.linalg.qr(RANDOM.standard_normal((3, 3)))[0] * 0.3, np.linalg.qr(RANDOM.standard_normal((3, 3)))[0])


def told(problem, **changes):
    return facts(
        mask=None, product=np.zeros((1, *problem.dims)), depth=len(problem.shapes), chain=problem is CHAIN, **changes
    )


CASES = [
    (CP, {"components": True}, 4.0, "cp_weight"),
    (HIERARCHICAL, {"tree": TREE}, 4.0, "local_component/0_1"),
    (CHAIN, {"unbalancedness": np.ones(1)}, 3.0, "singular_value"),
]


@pytest.mark.parametrize(("problem", "changes", "end", "family"), CASES, ids=[case[3] for case in CASES])
def test_flow_obeys_and_a_tampered_trace_does_not(problem, changes, end, family):
    context, trace, law = told(problem, **changes), problem.flow(end), LawOfMotion()
    found = law.verdicts(context, trace)
    key = f"law_of_motion/{family}"
    assert found[key]["verdict"] == "holds" and found[key]["rows"] > 100, found
    assert {verdict["verdict"] for verdict in found.values()} <= {"holds", "not applicable"}
    for column, factor in ((f"{family}/0", 1.02), (f"speed/{family}/0", 1.2)):
        values = trace[column].copy()
        values[60:] *= factor
        changed = law.verdicts(context, {**trace, column: values})[key]
        assert changed["verdict"] == "violated" and changed["column"] == f"{family}/0", column
        assert 58 <= changed["iteration"] <= 62 and changed["margin"] < 0
    if problem is CHAIN:
        return
    bounds = SpeedBounds().verdicts(context, trace)[f"speed_bounds/{family}"]
    assert bounds["verdict"] == "holds" and bounds["ratio"] > 1
    speeds = trace[f"speed/{family}/0"].copy()
    speeds[60] *= 1 + bounds["ratio"] ** 2
    changed = SpeedBounds().verdicts(context, {**trace, f"speed/{family}/0": speeds})[f"speed_bounds/{family}"]
    assert (changed["verdict"], changed["iteration"]) == ("violated", 60)


def test_balanced_chains_obey_aroras_law():
    u, v = SCALED
    problem = Problem([(3, 3), (3, 3)], "ba,cb->ca", (3, 3), 3.0, CHAIN.metrics)
    root = np.diag([0.5, 0.4, 0.3])
    problem.start = np.concatenate([(root @ v).ravel(), (u / 0.3 @ root).ravel()])  # W_2 = U S, W_1 = S V^T
    trace, context = problem.flow(3.0), facts(mask=None, depth=2, product=np.zeros((1, 3, 3)))
    found = LawOfMotion().verdicts(context, trace)["law_of_motion/balanced"]
    assert found["verdict"] == "holds" and found["rows"] > 100 and found["tolerance"] < 1e-3
    alignment = trace["alignment/singular_value/0"] * np.where(np.arange(161) < 60, 1.0, 1.1)
    changed = LawOfMotion().verdicts(context, {**trace, "alignment/singular_value/0": alignment})
    assert changed["law_of_motion/balanced"]["verdict"] == "violated"
    assert changed["law_of_motion/singular_value"]["verdict"] == "holds"  # it does not use the alignment
    unbalanced = LawOfMotion().verdicts(facts(depth=2, unbalancedness=np.ones(1)), trace)["law_of_motion/balanced"]
    assert unbalanced["premise"].startswith("balanced factors")


@pytest.mark.parametrize(("problem", "changes", "end", "family"), CASES, ids=[case[3] for case in CASES])
def test_flow_with_weight_decay_shrinks_each_vector(problem, changes, end, family, monkeypatch):
    monkeypatch.setattr(problem, "decay", 0.05)
    trace = problem.flow(end, rows=81)
    for decay, verdict in ((0.05, "holds"), (0.04, "violated")):
        context = told(problem, dynamics="decaying_flow", decay=np.full(1, decay), **changes)
        assert LawOfMotion().verdicts(context, trace)[f"law_of_motion/{family}"]["verdict"] == verdict


@pytest.mark.parametrize(("problem", "changes", "family"), [case[:2] + case[3:] for case in CASES[:2]])
def test_descent_obeys_up_to_the_error_of_its_steps(problem, changes, family):
    eta = 0.01
    trace = problem.descent(eta, 400, 4)
    context = told(problem, dynamics="descent", step_size=np.full(1, eta), tolerance=np.full(1, 2e-16), **changes)
    found = LawOfMotion().verdicts(context, trace)[f"law_of_motion/{family}"]
    assert found["verdict"] == "holds" and found["rows"] > 50
    as_flow = told(problem, dynamics="flow", **changes)  # the steps' error is not small
    assert LawOfMotion().verdicts(as_flow, trace)[f"law_of_motion/{family}"]["verdict"] == "violated"
    values = trace[f"{family}/0"] * np.where(np.arange(101) < 50, 1.0, 1.03)
    changed = LawOfMotion().verdicts(context, {**trace, f"{family}/0": values})[f"law_of_motion/{family}"]
    assert changed["verdict"] == "violated"


def test_premises_and_rows_that_are_too_far_apart():
    trace = CP.flow(4.0, rows=5)
    context = told(CP, components=True)
    wide = {**trace, "speed/cp_weight/0": trace["speed/cp_weight/0"] * np.array([1, 9, 1, 9, 1])}  # not smooth
    alone = {name: column for name, column in wide.items() if not name.endswith("/1")}
    for rows in (alone, {name: column[:2] for name, column in trace.items()}):
        few = LawOfMotion().verdicts(context, rows)["law_of_motion/cp_weight"]
        assert few["verdict"] == "says nothing here" and "1% of a norm" in few["reason"]
    for changes, word in (
        ({"dynamics": "adaptive"}, "constant rate"),
        ({"dynamics": "descent", "chain": True}, "lr=flow"),
    ):
        found = LawOfMotion().verdicts(facts(**changes), trace)["law_of_motion"]
        assert found["verdict"] == "not applicable" and word in found["premise"]
    assert "continuous derivative" in LawOfMotion().verdicts(facts(smooth=False), trace)["law_of_motion"]["premise"]
    assert "speed/..." in LawOfMotion().verdicts(facts(), {"loss": np.ones(2)})["law_of_motion"]["premise"]
    assert "CP or a hierarchical" in SpeedBounds().verdicts(facts(), trace)["speed_bounds"]["premise"]
