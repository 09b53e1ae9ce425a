"""Hierarchical factorizations: NumPy's Einstein sums, CP as a special case, the compiled engine, and refusals."""

import itertools
import json

import numpy as np
import pytest
import torch

from helpers.commands import rankward
from helpers.engines import trained
from helpers.in_process import assert_refused, command_line
from helpers.odd_factorizations import chosen, descended, forced, half_and_gradients, numbers, observed, problem_of
from helpers.runs import composed
from rankward import results
from rankward.dynamics import FusedEngine, Schedule
from rankward.dynamics.layouts import GraphLayout, layout_of
from rankward.dynamics.products import product_of
from rankward.factorizations import HierarchicalFactorization, TensorFactorization
from rankward.training.ensemble import Ensemble, traits

# Arguments, and the Einstein sum of the factors in their order, by hand.
CASES = [
    (HierarchicalFactorization((3, 4), widths=2), "ar,br,r->ab"),
    (HierarchicalFactorization((2, 3, 2, 4), widths=(3, 2)), "ar,br,ct,dt,rs,ts,s->abcd"),
    (HierarchicalFactorization((2, 3, 2, 4), "halves", widths=(2, 3)), "ar,bt,cr,dt,rs,ts,s->abcd"),
    (HierarchicalFactorization((2, 3, 4), widths=(2, 3)), "ar,br,cs,rs,s->abc"),
    (HierarchicalFactorization((2, 3, 4), arity=3, widths=5), "as,bs,cs,s->abc"),
    (HierarchicalFactorization((2, 3, 2, 2, 3), [[4, 5], [[3, 1], 2]], widths=(2, 3, 4)), "ax,by,cx,dw,ew,wz,xy,yz,z->abcde"),
    (HierarchicalFactorization((2, 2, 2, 2), "squares", widths=3), "as,bs,cs,ds,s->abcd"),
    (HierarchicalFactorization((2,) * 6, arity=3, widths=(2, 2)), "ar,br,cr,dt,et,ft,rs,ts,s->abcdef"),
    (HierarchicalFactorization((1, 2, 1, 1), widths=1), "ar,br,ct,dt,rs,ts,s->abcd"),
]  # fmt: skip
NAMES = [path for _, path in CASES]


def drawn(factorization, seed=0):
    return [torch.from_numpy(factor) for factor in numbers(factorization.shapes, seed)]


@pytest.mark.parametrize(("made", "path"), CASES, ids=NAMES)
def test_products_are_einstein_sums_of_numpy(made, path):
    factors = drawn(made)
    expected = np.einsum(path, *(factor.numpy() for factor in factors))
    np.testing.assert_allclose(made.product(factors).numpy(), expected, rtol=1e-13, atol=1e-14)
    rows = product_of(made)([torch.stack([factor, 2 * factor]) for factor in factors]).numpy()
    np.testing.assert_allclose(rows, [expected, 2 ** len(factors) * expected], rtol=1e-13, atol=1e-14)
    assert made.mean_loss and made.shapes == [tuple(factor.shape) for factor in factors]


@pytest.mark.parametrize(("made", "path"), CASES, ids=NAMES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
def test_the_graph_has_the_gradients_of_autograd_through_an_einstein_sum(made, path, dtype, tolerance):
    class Summed:
        product = staticmethod(lambda factors: torch.einsum(path, *factors))

    mask, values = observed(made.dims, 4)
    half, slopes = half_and_gradients(Summed, drawn(made, 3), torch.from_numpy(mask), torch.from_numpy(values))
    layout = layout_of(made, made.dims, made.dims, dtype)
    assert isinstance(layout, GraphLayout)
    ours = layout.graph.evaluate(*(factor.numpy() for factor in drawn(made, 3)), mask, values)
    for mine, other in zip(ours, (half, *slopes), strict=True):
        scale = max(float(other.abs().max()), 1e-3)
        np.testing.assert_allclose(mine.reshape(other.shape), other.numpy(), rtol=tolerance, atol=tolerance * scale)


def test_cp_is_the_tree_of_depth_one_and_any_tree_with_identities():
    dims, width = (3, 2, 4, 2), 5
    cp = TensorFactorization(dims, width)
    factors = drawn(cp)
    one, eye = torch.ones(width, dtype=torch.float64), torch.eye(width, dtype=torch.float64)
    flat = HierarchicalFactorization(dims, [1, 2, 3, 4], widths=width)
    torch.testing.assert_close(flat.product([*factors, one]), cp.product(factors), rtol=1e-13, atol=1e-14)
    for tree in ("neighbours", "halves", [[[1, 4], 2], 3]):
        made = HierarchicalFactorization(dims, tree, widths=width)
        inner = [eye] * (len(made.shapes) - 5)
        torch.testing.assert_close(made.product([*factors, *inner, one]), cp.product(factors), rtol=1e-13, atol=1e-14)


def test_the_default_widths_are_the_product_of_all_dimensions_but_the_largest():
    assert HierarchicalFactorization((2, 3, 2, 4)).widths == (12, 12)
    assert HierarchicalFactorization((8,) * 4).shapes == [(8, 512)] * 4 + [(512, 512)] * 2 + [(512,)]


def test_a_low_width_is_a_low_rank_of_the_tree_alone():
    """Rank 3 of modes 1 and 2 in the rows, and the full 9 of modes 1 and 3."""
    made = HierarchicalFactorization((3, 3, 3, 3), widths=(4, 3))
    tensor = made.product(drawn(made)).numpy()
    ranks = [np.linalg.matrix_rank(tensor.transpose(axes).reshape(9, 9)) for axes in ((0, 1, 2, 3), (0, 2, 1, 3))]
    assert ranks == [3, 9]


KINDS = ("unrolled", "lanes", "single", "blas")
SLOW = [
    pytest.param(*each, marks=pytest.mark.slow)
    for each in itertools.product(KINDS, (torch.float64, torch.float32), ("descent", "adaptive"))
]


@pytest.mark.parametrize(("kind", "dtype", "dynamics"), [("unrolled", torch.float64, "descent"), *SLOW[1:]])
def test_runs_are_those_of_autograd_with_the_same_bits_in_company(kind, dtype, dynamics, monkeypatch):
    forced(monkeypatch, kind)
    made = HierarchicalFactorization((2, 2, 2, 2), "halves", widths=2)
    factors, problem = problem_of(made, 3, dtype, dynamics)
    together = trained(FusedEngine(made, Schedule(), 1), factors, problem)
    alone = trained(FusedEngine(made, Schedule(), 2), [f[1:2] for f in factors], chosen(problem, [1]))
    assert all(torch.equal(a[1], b[0]) for a, b in zip(together[0], alone[0], strict=True))
    assert together[2][1] == alone[2][0]
    expected = descended(made, factors, problem, 1, int(problem.max_iterations[1]))
    tolerance = 1e-12 if dtype == torch.float64 else 1e-4
    for mine, other in zip(together[0], expected, strict=True):
        torch.testing.assert_close(mine[1], other, rtol=tolerance, atol=tolerance)


JOB = [
    "factorization=hierarchical", "observations=hierarchical_truth", "observations.dims=[2,2,2,2]",
    "observations.rank=1", "observations.count=9", "metrics=tensor", "logger=none",
]  # fmt: skip


def test_the_compiled_engine_is_chosen_and_another_tree_is_another_ensemble():
    run, _ = composed(*JOB)
    ensemble = Ensemble.of([run])
    assert ensemble.engine().name == "fused" and ensemble.problem.loss_scale.tolist() == [2 / 9]
    assert float(np.linalg.norm(ensemble.measurements[0].ground_truth)) == pytest.approx(1.0)
    other, _ = composed(*JOB, "factorization.tree=halves")
    assert traits(run) != traits(other)
    nested, _ = composed(*JOB, "factorization.tree=[[1,3],[2,4]]")
    assert Ensemble.of([nested]).factorization.tree == Ensemble.of([other]).factorization.tree


@pytest.mark.slow
def test_flow_conserves_its_local_components_and_the_last_row_has_the_rank(tmp_path):
    job = [*JOB, "metrics=hierarchical", "factorization.widths=2", "init.scale=0.3", "lr=flow", "stop_loss=1e-6"]
    done = rankward(*(each for each in job if each != "metrics=tensor"), "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["certificates"]["conservation"]["verdict"] == "holds" and summary["engine"] == "fused"
    assert 0 < summary["metrics"]["balance/drift"] < 1e-9 and "metrics" not in summary["notes"]
    arrays = results.read_factors(tmp_path / "run")
    assert [tuple(arrays[f"final.{n}"].shape) for n in range(7)] == [(2, 2)] * 6 + [(2,)]
    factors = [arrays[f"final.{n}"].numpy() for n in range(7)]
    np.testing.assert_allclose(np.einsum("ar,br,ct,dt,rs,ts,s->abcd", *factors), arrays["product"].numpy(), rtol=1e-12)
    trace = results.read_trace(tmp_path / "run")
    rank = trace["rank/hierarchical_0_1"].to_numpy()
    assert np.isnan(rank[:-1]).all() and rank[-1] in (1, 2)
    root = np.abs(factors[6]) * np.linalg.norm(factors[4], axis=0) * np.linalg.norm(factors[5], axis=0)
    assert trace["local_component/root/0"][-1] == pytest.approx(root.max())


REFUSED = [
    ("factorization.tree=neighbors", "factorization.tree: 'neighbors' is not allowed; expected one of neighbours, halves, squares (did you mean 'neighbours'?)"),
    ("factorization.tree=3", "factorization.tree: 3 is not allowed; expected neighbours, halves, squares, or a nested list of modes such as [[1,2],[3,4]]"),
    ("factorization.tree=[[1,2],[2,3]]", "factorization.tree: [[1, 2], [2, 3]] is not allowed; expected each mode from 1 to 4 once: mode 2 is there 2 times"),
    ("factorization.tree=[[1,2],[3]]", "expected at least two children for each inner node: [3] has 1"),
    ("factorization.tree=[[0,1],[2,3]]", "there is no mode 0"),
    ("factorization.tree=[[1,2],3]", "factorization.tree: [[1, 2], 3] is not allowed; expected each mode from 1 to 4 once: mode 4 is missing"),
    ("factorization.tree=[[1,2,3],[4,5]]", "expected each mode from 1 to 4 once: there is no mode 5"),
    ("factorization.tree=[[1,a],[3,4]]", "factorization.tree: [[1, 'a'], [3, 4]] is not allowed; expected a nested list of integers: 'a' is not one"),
    ("factorization.tree=squares observations.dims=[2,2,4]", "factorization.tree: 'squares' is not allowed; expected neighbours, halves or a nested list: 3 is no power of 4"),
    ("factorization.arity=1", "factorization.arity: 1 is not allowed; expected an integer of at least 2"),
    ("factorization.arity=2 factorization.tree=[[1,2],[3,4]]", "factorization.arity: 2 is not allowed; expected null: the nested list has the children of each node"),
    ("factorization.arity=3 factorization.tree=squares", "factorization.arity: 3 is not allowed; expected null: a node of squares has 4 children"),
    ("factorization.widths=[2]", "factorization.widths: [2] is not allowed; expected 2 of them, one for each level of inner nodes, or one integer"),
    ("factorization.widths=[2,0]", "factorization.widths: [2, 0] is not allowed; expected null, an integer of at least 1, or a list of them"),
    ("factorization.widths=1000000", "factorization.widths: 1000000 does not fit into memory: it needs"),
    ("observations.dims=[8,8,8,8,8,8]", "factorization.widths: null, 32768 at each level, does not fit into memory: it needs"),
    ("observations.rank=0", "observations.rank: 0 is not allowed; expected an integer from 1 to 8, the product of all dimensions but the largest, or a list of them"),
    ("observations.rank=[1]", "observations.rank: [1] is not allowed; expected 2 of them, one for each level of inner nodes, or one integer"),
    ("observations.rank=[1,1.5]", "observations.rank: [1, 1.5] is not allowed"),
    ("observations.tree=[1,2]", "observations.tree: [1, 2] is not allowed; expected each mode from 1 to 4 once: mode 3 is missing"),
    ("observations.norm=0", "observations.norm: 0.0 is not allowed; expected a positive finite number"),
    ("observations.dims=[4]", "observations.dims: [4] is not allowed; expected two or more integers"),
    ("observations=sensing observations.dims=[5] observations.rank=1 observations.count=3 metrics=vector", "factorization: 'hierarchical' is not allowed; expected diagonal or linear: the observations have 1 axis"),
    ("init=balanced", "init: 'balanced' is not allowed; expected gaussian"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "words"), REFUSED, ids=[arguments for arguments, _ in REFUSED])
def test_bad_input_is_one_line_and_nothing_is_written(tmp_path, arguments, words):
    given = arguments.split()
    replaced = {each.split("=")[0] for each in given}
    job = [each for each in JOB if each.split("=")[0] not in replaced]
    if "observations" in replaced:
        job = [each for each in job if not each.startswith("observations.")]
    assert_refused(command_line(*job, *given, cwd=tmp_path), words)
