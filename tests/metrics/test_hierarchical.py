"""Local components and ranks of trees against NumPy, and what gradient flow conserves of them."""

import numpy as np
import pytest
import torch

from helpers.odd_factorizations import half_and_gradients, numbers, observed
from rankward.factorizations import HierarchicalFactorization
from rankward.metrics import HierarchicalRank, LocalComponentDrift, LocalComponentNorms, measure
from rankward.metrics.functional import cp_weights, local_component_norms
from rankward.metrics.functional.conserved import local_component_drift
from rankward.metrics.functional.local_components import local_component_vectors
from rankward.mode_tree import mode_tree

MADE = [
    HierarchicalFactorization((2, 3, 2, 4), widths=(3, 2)),
    HierarchicalFactorization((2, 2, 3, 2, 2), [[4, 5], [[3, 1], 2]], widths=(2, 3, 4)),
    HierarchicalFactorization((3, 2, 2), [1, 2, 3], widths=4),
    HierarchicalFactorization((3, 4), widths=2),
]
IDS = [str(each.shapes) for each in MADE]


def rows(made, count=3):
    drawn = [numbers(made.shapes, seed) for seed in range(count)]
    return [torch.from_numpy(np.stack(each)) for each in zip(*drawn, strict=True)]


@pytest.mark.parametrize("made", MADE, ids=IDS)
def test_norms_are_those_of_numpy_component_by_component(made):
    factors, order = rows(made), len(made.dims)
    found = local_component_norms(factors, made.tree)
    for node, norms in zip(made.tree.nodes[order:], found, strict=True):
        own = factors[made.tree.nodes.index(node)].numpy()
        for run in range(3):
            expected = [
                np.linalg.norm(own[run, r]) * np.prod([np.linalg.norm(factors[c][run, :, r]) for c in node.children])
                for r in range(own.shape[1])
            ]
            np.testing.assert_allclose(norms[run].numpy(), sorted(expected, reverse=True), rtol=1e-14)


def test_by_hand_and_in_names():
    """Binary, order 4: component r of (1, 2) has a_r, b_r and a row of its matrix; that of the root two columns."""
    made = MADE[0]
    factors = rows(made)
    a, b, _, _, left, right, root = (factor[0].numpy() for factor in factors)
    columns = measure({"norms": LocalComponentNorms(largest=2)}, factors, lambda f: f[0], False, tree=made.tree)
    assert list(columns) == [f"local_component/{node}/{r}" for node in ("0_1", "2_3", "root") for r in (0, 1)]
    lower = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0) * np.linalg.norm(left, axis=1)
    upper = np.linalg.norm(left, axis=0) * np.linalg.norm(right, axis=0) * np.abs(root)
    assert columns["local_component/0_1/0"][0].item() == pytest.approx(lower.max())
    assert columns["local_component/root/1"][0].item() == pytest.approx(upper.min())


def test_cp_is_a_tree_with_ones_at_its_root():
    made = MADE[2]
    factors = rows(made)
    factors[-1].fill_(1.0)
    torch.testing.assert_close(local_component_norms(factors, made.tree)[0], cp_weights(factors[:-1]), rtol=0, atol=0)


def test_drift_is_that_of_numpy_between_any_two_neighbours():
    made = MADE[0]
    factors, initial = rows(made), rows(made, 6)
    initial = [each[3:] for each in initial]

    def squares(run, given):
        a, b, c, d, left, right, root = (np.square(each[run].numpy()) for each in given)
        nodes = (
            (a.sum(0), b.sum(0), left.sum(1)),
            (c.sum(0), d.sum(0), right.sum(1)),
            (left.sum(0), right.sum(0), root),
        )
        return np.concatenate([np.diff(node, axis=0) for node in map(np.stack, nodes[:2])], axis=0), np.diff(
            nodes[2], axis=0
        )

    for run, drift in enumerate(local_component_drift(factors, initial, made.tree).tolist()):
        moved = [now - then for now, then in zip(squares(run, factors), squares(run, initial), strict=True)]
        size = max(float(each[run].square().sum()) for each in factors)
        assert drift == pytest.approx(max(np.linalg.norm(each, axis=1).max() for each in moved) / size, rel=1e-12)


def test_zeros_nan_and_numbers_whose_squares_leave_float64():
    tree, (root, leaf) = mode_tree("neighbours", 2), (torch.ones(3, 1), torch.ones(3, 1, 1, dtype=torch.float64))
    scale = torch.tensor([0.0, 1e-200, torch.nan], dtype=torch.float64)[:, None, None]
    (norms,) = local_component_norms([leaf * scale, leaf * 1e200, root], tree)
    assert norms[:2, 0].tolist() == pytest.approx([0.0, 1.0]) and norms[2, 0].isnan()
    drift = local_component_drift([0 * leaf, 0 * leaf, 0 * root], [leaf, leaf, root], tree)
    assert drift.isnan().all()


@pytest.mark.parametrize("made", MADE, ids=IDS)
def test_all_vectors_of_a_component_grow_alike_under_flow(made):
    """d|v|^2/dt = -2 <v, gradient of v> by autograd, the same for each vector; so an Euler step drifts by its square."""
    factors = [factor[0] for factor in rows(made)]
    mask, values = (torch.from_numpy(each) for each in observed(made.dims, 2))
    _, slopes = half_and_gradients(made, factors, mask, values)
    pairs = zip(
        local_component_vectors([factor[None] for factor in factors], made.tree),
        local_component_vectors([slope[None] for slope in slopes], made.tree),
        strict=True,
    )
    for vectors, gradients in pairs:
        growth = torch.stack([(v * g).sum(-1) for v, g in zip(vectors, gradients, strict=True)])
        torch.testing.assert_close(growth, growth[:1].expand_as(growth), rtol=1e-10, atol=1e-12)

    def drift(step):
        moved = [(factor - step * slope)[None] for factor, slope in zip(factors, slopes, strict=True)]
        return local_component_drift(moved, [factor[None] for factor in factors], made.tree).item()

    assert drift(1e-3) / drift(5e-4) == pytest.approx(4, rel=0.01)


@pytest.mark.parametrize("made", MADE, ids=IDS)
def test_ranks_are_those_of_numpy_for_each_node_but_the_root(made):
    factors = rows(made)
    columns = measure({"rank": HierarchicalRank(rtol=1e-10)}, factors, product_of(made), False, tree=made.tree)
    assert len(columns) == len(made.tree.nodes) - 1
    product = product_of(made)(factors).numpy()
    for node in made.tree.nodes[:-1]:
        modes = sorted(node.modes)
        others = [mode for mode in range(len(made.dims)) if mode not in modes]
        rows_ = int(np.prod([made.dims[mode] for mode in modes]))
        ranks = columns[f"rank/hierarchical_{'_'.join(map(str, modes))}"].tolist()
        for tensor, rank in zip(product, ranks, strict=True):
            assert rank == np.linalg.matrix_rank(tensor.transpose(*modes, *others).reshape(rows_, -1), tol=1e-9)


def product_of(made):
    return lambda factors: torch.stack([made.product([f[row] for f in factors]) for row in range(len(factors[0]))])


def test_a_row_has_the_same_bits_alone():
    made = MADE[1]
    factors = rows(made, 5)
    metrics = {"a": LocalComponentNorms(), "b": LocalComponentDrift(), "c": HierarchicalRank()}

    def measured(at):
        chosen, initial = [factor[at] for factor in factors], [factor[at] * 0.5 for factor in factors]
        return measure(metrics, chosen, product_of(made), False, tree=made.tree, initial=initial)

    together, alone = measured(slice(0, 5)), measured(slice(2, 3))
    assert list(together) == list(alone) and len(together) == 10 + 1 + 8 + 1
    assert all(torch.equal(together[name][2:3], alone[name]) for name in together)


def test_ranks_are_measured_of_the_last_row_unless_asked_for():
    assert HierarchicalRank().last_row_only and not HierarchicalRank(every_row=True).last_row_only
    with pytest.raises(ValueError, match="rtol"):
        HierarchicalRank(rtol=1.0)
    with pytest.raises(ValueError, match="largest"):
        LocalComponentNorms(0)
    assert LocalComponentNorms().columns() == {}
