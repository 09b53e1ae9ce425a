"""Every function at the ends of float64's range, against mpmath in 60 digits."""

import math

import mpmath
import numpy as np
import pytest
import torch

from rankward.metrics import functional as F
from rankward.metrics.functional.conserved import component_drift, matrix_drift
from rankward.metrics.functional.norms import root_of_squares, schatten_norm_from_singular_values

mpmath.mp.dps = 60
SCALES = [5e-324, 1e-320, 1e-310, 1e-250, 1e-165, 1e-90, 1e90, 1e155, 1e250, 1e308]
MATRICES = [
    np.diag([1.0, 1.0]), np.diag([1.0, 0.5]), np.array([[0.25, -0.5], [1.0, 0.125]]), np.array([[0.75, 0.5, 1.0]]),
    np.diag([1.0, 0.5, 0.25]), np.array([[1.0, 0.5, 0.25], [0.0, 1.0, 0.5], [0.5, 0.25, 1.0]]), np.ones((3, 3)),
]  # fmt: skip


def tensor(matrix):
    return torch.tensor(np.asarray(matrix, dtype=np.float64))


def exact(value):
    """The nearest float64, infinite beyond the largest."""
    return math.inf if abs(value) > mpmath.mpf(1.7976931348623157e308) else float(value)


def sizes(matrix):
    """Singular values of a float64 matrix, descending."""
    found = mpmath.svd_r(mpmath.matrix(matrix.tolist()), compute_uv=False)
    return sorted((abs(found[i]) for i in range(len(found))), reverse=True)


def schatten(values, p):
    return values[0] if math.isinf(p) else mpmath.fsum(v**p for v in values if v) ** (1 / mpmath.mpf(p))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("matrix", MATRICES, ids=str)
def test_norms_and_ranks(matrix, scale):
    given = matrix * scale
    values = sizes(given)
    coarse = 1e-12 if scale > 1e-300 else 0.5 * 5e-324 * len(values) / given.max() + 1e-12  # subnormals have few digits
    for name, p in (("nuclear_norm", 1), ("frobenius_norm", 2), ("spectral_norm", math.inf)):
        wanted = exact(schatten(values, p))
        assert getattr(F, name)(tensor(given)).item() == pytest.approx(wanted, rel=2 * coarse, abs=1e-323), name
    for p in (0.3, 0.5, 3) if values[-1] > 1e-9 * values[0] else (3,):  # rounding alone is not small to the power 0.3
        wanted = exact(schatten(values, p))
        assert F.schatten_norm(tensor(given), p).item() == pytest.approx(wanted, rel=10 * coarse, abs=1e-322)
    if scale < 1e-300:
        return  # ranks below are of the matrix without its scale, and rounding to subnormals has changed that
    shares = [v / mpmath.fsum(values) for v in values if v > 1e-30 * values[0]]
    rank = mpmath.exp(-mpmath.fsum(s * mpmath.log(s) for s in shares))
    assert F.effective_rank(tensor(given)).item() == pytest.approx(float(rank), rel=1e-12)
    stable = mpmath.fsum(v**2 for v in values) / values[0] ** 2
    assert F.stable_rank(tensor(given)).item() == pytest.approx(float(stable), rel=1e-12)
    assert F.numerical_rank(tensor(given), 1e-3).item() == sum(v > values[0] / 1000 for v in values)
    for rank in range(len(values) + 1):
        wanted = exact(mpmath.sqrt(mpmath.fsum(v**2 for v in values[rank:])))
        found = F.distance_to_infimal_rank(tensor(given), rank).item()
        assert found == pytest.approx(wanted, rel=1e-9, abs=1e-14 * exact(values[0]))


def test_ranks_of_subnormal_matrices_by_hand():
    for scale in (1e-320, 5e-324):
        both = tensor(np.diag([scale, scale]))
        assert F.effective_rank(both).item() == pytest.approx(2, rel=1e-15)
        assert F.stable_rank(both).item() == 2 and F.numerical_rank(both).item() == 2
    units = tensor(np.diag([2024.0, 2.0]) * 5e-324)  # 2/2024 is 0.00099
    assert F.numerical_rank(units, 0.0008).item() == 2 and F.numerical_rank(units, 0.001).item() == 1
    assert F.effective_rank(tensor(np.full((2, 2), 1.7e308))).item() == 1  # the singular value itself overflows


@pytest.mark.parametrize("p", [1e-3, 3e-3, 0.02])
def test_small_p_brings_back_what_one_ratio_loses(p):
    for pair in ([1e300, 1e-320], [1e-300, 1e-300], [1e308, 1e-10], [1e-320, 1e-320]):
        wanted = exact(schatten([mpmath.mpf(x) for x in pair], p))
        assert schatten_norm_from_singular_values(tensor(pair), p).item() == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("scale", SCALES)
def test_lengths_and_errors(scale):
    given, truth = np.array([[3.0, -1.0], [0.5, 2.0]]) / 4 * scale, np.array([[1.0, 1.0], [0.25, 0.0]]) / 4 * scale
    moved = [mpmath.mpf(a) - mpmath.mpf(b) for a, b in zip(given.flat, truth.flat, strict=True)]
    distance = mpmath.sqrt(mpmath.fsum(x**2 for x in moved))
    size = mpmath.sqrt(mpmath.fsum(mpmath.mpf(x) ** 2 for x in truth.flat))
    assert F.reconstruction_error(tensor(given), tensor(truth)).item() == pytest.approx(
        exact(distance), rel=1e-12, abs=1e-323
    )
    if size:
        ratio = F.reconstruction_error(tensor(given), tensor(truth), relative=True).item()
        assert ratio == pytest.approx(float(distance / size), rel=1e-12 if scale > 1e-300 else 0.3)
    length = mpmath.sqrt(mpmath.fsum(mpmath.mpf(x) ** 2 for x in given.flat))
    assert root_of_squares(tensor(given).flatten()).item() == pytest.approx(exact(length), rel=1e-12, abs=1e-323)


def test_a_zero_truth_has_no_relative_error():
    zero, one = torch.zeros(2, 2), torch.ones(2, 2)
    assert F.reconstruction_error(one, zero, relative=True).isnan() and F.reconstruction_error(zero, zero, True).isnan()
    assert F.reconstruction_error(one, zero).item() == 2


def grams(factors):
    made = [mpmath.matrix(f.tolist()) for f in factors]
    return [above.T * above - below * below.T for below, above in zip(made, made[1:], strict=False)]


@pytest.mark.parametrize("scale", [s for s in SCALES if s > 1e-300])
def test_conserved_quantities_at_extremes(scale):
    random = np.random.default_rng(1)
    factors = [scale * random.uniform(-1, 1, (2, 2)) for _ in range(3)]
    initial = [scale * random.uniform(-1, 1, (2, 2)) for _ in range(3)]
    differences = grams(factors)
    largest = max(max(abs(v) for v in sizes(np.array(d.tolist(), dtype=object))) for d in differences)
    assert F.unbalancedness([tensor(f) for f in factors]).item() == pytest.approx(exact(largest), rel=1e-10, abs=1e-323)
    size = max(mpmath.fsum(mpmath.mpf(x) ** 2 for x in f.flat) for f in factors)
    moves = [
        mpmath.sqrt(mpmath.fsum((now - then)[i, j] ** 2 for i in range(2) for j in range(2)))
        for now, then in zip(differences, grams(initial), strict=True)
    ]
    batches = [[tensor(f)[None] for f in each] for each in (factors, initial)]
    assert matrix_drift(*batches).item() == pytest.approx(float(max(moves) / size), rel=1e-10)

    def squared(each):
        return [[mpmath.fsum(mpmath.mpf(x) ** 2 for x in column) for column in f.T] for f in each]

    now, then = squared(factors), squared(initial)
    moves = [
        mpmath.sqrt(mpmath.fsum((now[n + 1][r] - now[n][r] - then[n + 1][r] + then[n][r]) ** 2 for r in range(2)))
        for n in range(2)
    ]
    assert component_drift(*batches).item() == pytest.approx(float(max(moves) / size), rel=1e-10)


def test_balanced_factors_of_any_size_are_balanced():
    for scale in SCALES:
        assert F.unbalancedness([tensor(scale * np.eye(2))] * 3).item() == 0
        assert matrix_drift([tensor(scale * np.eye(2))[None]] * 2, [tensor(scale * np.eye(2))[None]] * 2).item() == 0


@pytest.mark.parametrize(
    "scales", [(1e-200, 1e-200, 1e300), (1e300, 1e-300, 1e200), (1e180, 1e120, 1e-310), (1e200, 1e200, 1.0)]
)
def test_component_norms(scales):
    factors = [s * np.array([[1.0, 0.5], [0.25, 0.75]]) for s in scales]
    norms = [
        mpmath.fprod(mpmath.sqrt(mpmath.fsum(mpmath.mpf(x) ** 2 for x in f[:, r])) for f in factors) for r in range(2)
    ]
    found = F.cp_weights([tensor(f)[None] for f in factors])[0]
    np.testing.assert_allclose(found, [exact(norm) for norm in sorted(norms, reverse=True)], rtol=1e-12)


def test_bits_do_not_depend_on_extreme_company():
    plain = torch.randn(5, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mixed = torch.cat([plain, 1e300 * plain[:1], 1e-300 * plain[:1]])
    for name in ("effective_rank", "numerical_rank", "frobenius_norm"):
        assert torch.equal(getattr(F, name)(mixed)[:5], getattr(F, name)(plain)), name
    assert torch.equal(F.unbalancedness([mixed, mixed.mT])[:5], F.unbalancedness([plain, plain.mT]))
    assert torch.equal(
        matrix_drift([mixed, mixed], [mixed, mixed.mT])[:5], matrix_drift([plain, plain], [plain, plain.mT])
    )
