"""Motion of components against autograd in float64, finite differences, NumPy's einsum, and SciPy's flow."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from helpers.odd_factorizations import numbers
from rankward.dynamics.reference import negative_gradients
from rankward.factorizations import HierarchicalFactorization, MatrixFactorization, TensorFactorization
from rankward.losses import L1, Squared
from rankward.metrics import ChainSingularValues, ComponentMotion, LocalComponentMotion, SingularValueMotion, measure
from rankward.metrics.functional.motion import (
    component_motion,
    local_component_motion,
    singular_value_motion,
    speed_bounds,
)

CP = [TensorFactorization((3, 4), 3), TensorFactorization((2, 3, 4), 4), TensorFactorization((2, 3, 2, 2), 2)]
TREES = [
    HierarchicalFactorization((2, 3, 2, 4), widths=(3, 2)),
    HierarchicalFactorization((2, 2, 3, 2, 2), [[4, 5], [[3, 1], 2]], widths=(2, 3, 4)),
    HierarchicalFactorization((3, 2, 2), [1, 2, 3], widths=4),
]
CHAINS = [MatrixFactorization((4, 3), 1), MatrixFactorization((3, 5), 2), MatrixFactorization((4, 4), 3, hidden=5)]


def drawn(made, runs=2):
    """Factors [runs, ...], products, -dL/dW, and by autograd the factors' velocities."""
    factors = [
        torch.from_numpy(np.stack(each)) for each in zip(*(numbers(made.shapes, s) for s in range(runs)), strict=True)
    ]
    products, velocities = [], []
    descent = torch.from_numpy(np.random.default_rng(7).standard_normal((runs, *made.dims)))
    for run in range(runs):
        one = [factor[run].clone().requires_grad_() for factor in factors]
        product = made.product(one)
        velocities.append(torch.autograd.grad((descent[run] * product).sum(), one))
        products.append(product.detach())
    return factors, torch.stack(products), descent, [torch.stack(each) for each in zip(*velocities, strict=True)]


def moved(factors, velocities, step):
    return [(factor + step * velocity).numpy() for factor, velocity in zip(factors, velocities, strict=True)]


def assert_moves(found, norms, h=1e-4):
    """Speed and step error are the first and second differences of ln(norm) along the velocity."""
    before, at, after = (np.log(norms(step)) for step in (-h, 0, h))
    order = found.index.long().numpy()
    at, first, second = (
        np.take_along_axis(each, order, 1) for each in (at, (after - before) / (2 * h), after + before - 2 * at)
    )
    np.testing.assert_allclose(found.norm, np.exp(at), rtol=1e-12)
    np.testing.assert_allclose(found.speed / found.norm, first, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.step_error, second / (2 * h * h), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("made", CP, ids=lambda made: str(made.shapes))
def test_components(made):
    factors, _, descent, velocities = drawn(made)
    found = component_motion(factors, descent)
    assert_moves(found, lambda h: np.prod([np.linalg.norm(f, axis=1) for f in moved(factors, velocities, h)], axis=0))
    letters = "abcd"[: len(made.dims)]
    text = ",".join(f"n{each}r" for each in letters) + f",n{letters}->nr"
    along = np.einsum(
        text, *(f / np.linalg.norm(f, axis=1, keepdims=True) for f in moved(factors, velocities, 0)), descent
    )
    np.testing.assert_allclose(found.alignment, np.take_along_axis(along, found.index.long().numpy(), 1), rtol=1e-10)
    squares = np.stack([np.square(f).sum(1) for f in moved(factors, velocities, 0)])
    imbalance = np.take_along_axis(squares.max(0) - squares.min(0), found.index.long().numpy(), 1)
    np.testing.assert_allclose(found.imbalance, imbalance, rtol=1e-12)
    low, high = speed_bounds(found.norm, found.alignment, found.imbalance, len(made.dims))
    assert (low <= found.speed).all() and (found.speed <= high).all()
    assert component_motion(factors, descent, largest=1).norm.shape == (2, 1)


@pytest.mark.parametrize("made", TREES, ids=lambda made: str(made.shapes))
def test_local_components(made):
    factors, _, descent, velocities = drawn(made)
    inner = [number for number, node in enumerate(made.tree.nodes) if node.children]
    for number, found in zip(inner, local_component_motion(factors, descent, made.tree), strict=True):
        children = made.tree.nodes[number].children

        def norms(h, number=number, children=children):
            now = moved(factors, velocities, h)
            own = np.abs(now[number]) if now[number].ndim == 2 else np.linalg.norm(now[number], axis=2)
            return own * np.prod([np.linalg.norm(now[child], axis=1) for child in children], axis=0)

        assert_moves(found, norms)
        for run in range(2):  # the tensor of one component: all others of the node are 0
            for place, r in enumerate(found.index[run].long().tolist()):
                alone = [factor[run].clone() for factor in factors]
                alone[number] = torch.zeros_like(alone[number])
                alone[number][r] = factors[number][run][r]
                along = (made.product(alone) * descent[run]).sum() / found.norm[run, place]
                assert found.alignment[run, place].item() == pytest.approx(along.item(), rel=1e-9, abs=1e-12)


def test_order_four_by_einsum():
    """Binary, order 4: the speed of the root's components, written out."""
    factors, _, descent, _ = drawn(TREES[0])
    a, b, c, d, left, right, root = (factor.numpy() for factor in factors)
    part = np.einsum("nar,nbr,nrs,nct,ndt,nts,ns,nabcd->ns", a, b, left, c, d, right, root, descent.numpy())
    norm = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1) * np.abs(root)
    speed = part * norm * (np.square(left).sum(1) ** -1 + np.square(right).sum(1) ** -1 + root**-2)
    found = local_component_motion(factors, descent, TREES[0].tree)[-1]
    np.testing.assert_allclose(found.speed, np.take_along_axis(speed, found.index.long().numpy(), 1), rtol=1e-11)


@pytest.mark.parametrize("made", CHAINS, ids=lambda made: str(made.shapes))
def test_singular_values(made):
    made.dims = made.sizes[-1], made.sizes[0]
    factors, product, descent, velocities = drawn(made)
    found = singular_value_motion(factors, product, descent, largest=2)
    h, count = 1e-5, found.norm.shape[1]

    def values(step):
        return np.linalg.svd(_product(moved(factors, velocities, step)), compute_uv=False)[:, :count]

    np.testing.assert_allclose(found.norm, values(0), rtol=1e-12)
    np.testing.assert_allclose(found.speed, (values(h) - values(-h)) / (2 * h), rtol=1e-5, atol=1e-6)
    u, _, v = np.linalg.svd(product.numpy(), full_matrices=False)
    np.testing.assert_allclose(found.alignment, np.einsum("nir,nij,nrj->nr", u, descent, v)[:, :count], rtol=1e-9)


def _product(factors):
    made = factors[0]
    for factor in factors[1:]:
        made = factor @ made
    return made


def test_equal_and_infinite_values_have_no_speed():
    eye = torch.eye(3, dtype=torch.float64)[None]
    assert singular_value_motion([eye, eye], eye, eye).speed.isnan().all()
    one = singular_value_motion([eye[..., :1]], eye[..., :1], eye[..., :1])
    assert one.speed.item() == pytest.approx(1.0)
    assert singular_value_motion([eye * torch.inf], eye * torch.inf, eye).speed.isnan().all()
    zero = component_motion([torch.zeros(1, 2, 1), torch.ones(1, 2, 1)], torch.ones(1, 2, 2))
    assert zero.norm.item() == 0 and zero.alignment.isnan().all() and zero.speed.isnan().all()


def test_bits_do_not_depend_on_company():
    for made, motion in (
        (CP[1], component_motion),
        (TREES[1], lambda factors, descent: local_component_motion(factors, descent, TREES[1].tree)[0]),
        (CHAINS[2], lambda factors, descent: singular_value_motion(factors, _product(factors), descent)),
    ):
        made.dims = getattr(made, "dims", None) or (made.sizes[-1], made.sizes[0])
        factors, _, descent, _ = drawn(made, 5)
        alone = [motion([f[run : run + 1] for f in factors], descent[run : run + 1]).speed for run in range(5)]
        assert torch.equal(torch.cat(alone), motion(factors, descent).speed)


def test_gradients_at_products_are_those_of_autograd():
    rng = np.random.default_rng(0)
    products = torch.from_numpy(rng.standard_normal((3, 2, 3)))
    run, scale = torch.tensor([1, 0, 1]), torch.tensor([0.5, 2.0])
    mask, values = torch.from_numpy(rng.random((2, 2, 3)) < 0.5), torch.from_numpy(rng.standard_normal((2, 2, 3)))
    sensing, measured = (torch.from_numpy(rng.standard_normal((2, 4, *size))) for size in ((2, 3), ()))
    for operator, data, residuals in (
        (mask.double(), values, lambda w, r: mask[r] * (w - values[r])),
        (sensing, measured, lambda w, r: torch.einsum("nij,ij->n", sensing[r], w) - measured[r]),
    ):
        for of, value in ((Squared(), lambda r: r.square() / 2), (L1(), torch.abs)):
            found = negative_gradients(products, run, operator, data, scale, of)
            for row, r in enumerate(run.tolist()):
                w, one = products[row].clone().requires_grad_(), slice(row, row + 1)
                (expected,) = torch.autograd.grad(-scale[r] * value(residuals(w, r)).sum(), w)
                np.testing.assert_allclose(found[row], expected, rtol=1e-12, atol=1e-13)
                alone = negative_gradients(products[one], run[one], operator, data, scale, of)
                assert torch.equal(alone[0], found[row])


def test_speeds_are_the_slopes_along_scipys_flow():
    """Completion of a 3x4x3 tensor by two components: d sigma / dt by differences of SciPy's solution."""
    made, rng = TensorFactorization((3, 4, 3), 2), np.random.default_rng(1)
    truth = np.einsum("a,b,c->abc", *(rng.standard_normal(d) for d in made.dims))
    mask, start = (rng.random(made.dims) < 0.7) * 1.0, rng.standard_normal(20) * 0.3

    def split(flat):
        return flat[:6].reshape(3, 2), flat[6:14].reshape(4, 2), flat[14:].reshape(3, 2)

    def field(_, flat):
        a, b, c = split(flat)
        g = -mask * (np.einsum("ar,br,cr->abc", a, b, c) - truth)
        parts = (
            np.einsum("abc,br,cr->ar", g, b, c),
            np.einsum("abc,ar,cr->br", g, a, c),
            np.einsum("abc,ar,br->cr", g, a, b),
        )
        return np.concatenate([part.ravel() for part in parts])

    times, h = np.linspace(0.2, 4, 9), 1e-4
    sampled = np.sort(np.concatenate([times - h, times, times + h]))
    solved = solve_ivp(field, (0, 4.1), start, "DOP853", t_eval=sampled, rtol=1e-12, atol=1e-14).y.T.reshape(9, 3, 20)
    norms = np.array(
        [[np.prod([np.linalg.norm(f, axis=0) for f in split(x)], axis=0) for x in each] for each in solved]
    )
    factors = [torch.from_numpy(np.stack(each)) for each in zip(*(split(x) for x in solved[:, 1]), strict=True)]
    descent = torch.from_numpy(-mask * (np.einsum("nar,nbr,ncr->nabc", *factors) - truth))
    found = component_motion(factors, descent)
    slopes = np.take_along_axis((norms[:, 2] - norms[:, 0]) / (2 * h), found.index.long().numpy(), 1)
    np.testing.assert_allclose(found.speed, slopes, rtol=1e-5, atol=1e-6)


def test_columns_are_named_after_the_norms():
    factors, product, descent, _ = drawn(CP[0])
    given = {"negative_gradient": lambda _: lambda _: descent}
    columns = measure({"motion": ComponentMotion(largest=2)}, factors, lambda _: product, False, **given)
    assert list(columns)[:4] == [
        "alignment/cp_weight/0",
        "alignment/cp_weight/1",
        "speed/cp_weight/0",
        "speed/cp_weight/1",
    ]
    factors, product, descent, _ = drawn(TREES[0])
    tree = measure({"m": LocalComponentMotion(1)}, factors, lambda _: product, False, tree=TREES[0].tree, **given)
    assert [name for name in tree if name.startswith("speed/")] == [
        f"speed/local_component/{node}/0" for node in ("0_1", "2_3", "root")
    ]
    chain = CHAINS[1]
    chain.dims = chain.sizes[-1], chain.sizes[0]
    factors, product, descent, _ = drawn(chain)
    metrics = {"values": ChainSingularValues(1), "motion": SingularValueMotion(1)}
    assert list(measure(metrics, factors, lambda _: product, **given)) == [
        "singular_value/0",
        "alignment/singular_value/0",
        "speed/singular_value/0",
    ]
    for metric in (ComponentMotion, LocalComponentMotion, SingularValueMotion):
        with pytest.raises(ValueError, match="largest: 0"):
            metric(largest=0)
