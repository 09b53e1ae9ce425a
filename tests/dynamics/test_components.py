"""The CP kernel and the adaptive rate: against autograd, against NumPy, against matrices, and in other company."""

import numpy as np
import pytest
import torch

from helpers.components import problem_of, starts
from helpers.engines import picked, trained
from helpers.own_factorizations import chain
from rankward.dynamics import Adaptive, FusedEngine, Problem, ReferenceEngine, Schedule, Status
from rankward.dynamics.cp import Plan
from rankward.dynamics.products import cp_tensors, product_of
from rankward.factorizations import LinearFactorization, MatrixFactorization
from rankward.factorizations.initialisation import Gaussian

SHAPES = [
    ((5, 3), 4), ((9, 9), 40), ((3, 5, 2), 7), ((8, 8, 8), 64), ((1, 4, 3), 3), ((2, 7, 3, 4), 33),
    ((3, 2, 4, 2, 3), 20), ((2, 2, 2, 2, 2), 70),
]  # fmt: skip
LONG_TO_COMPILE = (((9, 9), 40), ((8, 8, 8), 64), ((3, 2, 4, 2, 3), 20))
LETTERS = "abcdefgh"


def some(factors, problem, at):
    """Runs of a problem, with the rate of each."""
    chosen, plain = picked(factors, problem, at)
    rate = problem.adaptive
    at = torch.as_tensor(at)
    return chosen, Problem(
        plain.operator, plain.values, plain.eta, plain.stop_loss, plain.max_iterations, problem.loss_scale[at],
        None if rate is None else Adaptive(rate.beta[at], rate.eps[at]),
    )  # fmt: skip


def by_hand(factors, problem, run, iterations):
    """Equation 11's gradient (of the mean) mode by mode with einsum, and Section 4.2's rate, of one run in NumPy."""
    factors = [factor[run].double().numpy().copy() for factor in factors]
    mask, values, eta = problem.operator[run].numpy(), problem.values[run].numpy(), float(problem.eta[run])
    modes = LETTERS[: len(factors)]
    mean = 0.0
    for step in range(1, iterations + 1):
        tensor = np.einsum(",".join(m + "z" for m in modes) + "->" + modes, *factors)
        error = 2 / mask.sum() * mask * (tensor - values)
        slopes = []
        for mode in modes:
            others = [m + "z" for m in modes if m != mode]
            arrays = [f for m, f in zip(modes, factors, strict=True) if m != mode]
            slopes.append(np.einsum(f"{modes},{','.join(others)}->{mode}z", error, *arrays))
        if problem.adaptive is not None:
            mean = 0.99 * mean + 0.01 * sum((slope**2).sum() for slope in slopes)
            rate = eta / (np.sqrt(mean / (1 - 0.99**step)) + 1e-6)
        else:
            rate = eta
        factors = [factor - rate * slope for factor, slope in zip(factors, slopes, strict=True)]
    return factors


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("share", [0.05, 0.7])  # the kernel has a path for few entries and one for many
@pytest.mark.parametrize(
    ("dims", "components"),
    [pytest.param(*shape, marks=[pytest.mark.slow] if shape in LONG_TO_COMPILE else []) for shape in SHAPES],
)
def test_the_kernel_agrees_with_autograd_and_numpy(dims, components, share, adaptive):
    # One entry is soon fit, and then an adaptive rate overshoots it to and fro, which tells roundings apart.
    iterations = 400 if share > 0.5 or np.prod(dims) > 500 else 60
    factorization, factors = starts(dims, components, 2, torch.float64)
    problem = problem_of(dims, 2, share, torch.float64, adaptive, iterations=iterations)
    schedule = Schedule(stride=100)
    fast, _, rows = trained(FusedEngine(factorization, schedule), factors, problem)
    slow, _, slow_rows = trained(ReferenceEngine(factorization, schedule), factors, problem)
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose([r[1] for r in rows[1]], [r[1] for r in slow_rows[1]], rtol=1e-8, atol=1e-16)
    for a, b in zip(fast, by_hand(factors, problem, 1, iterations), strict=True):
        np.testing.assert_allclose(a[1].numpy(), b, rtol=1e-6, atol=1e-9)
    assert max((a - b).abs().max() for a, b in zip(fast, factors, strict=True)) > 1e-3  # they have moved


def test_the_recorded_loss_is_the_mean_over_observed_entries():
    factorization, factors = starts((3, 4, 2), 5, 1, torch.float64)
    problem = problem_of((3, 4, 2), 1, 0.5, torch.float64)
    _, _, rows = trained(FusedEngine(factorization, Schedule(stride=100)), factors, problem)
    mask = problem.operator[0].bool()
    residual = (factorization.product([f[0] for f in factors]) - problem.values[0])[mask]
    assert rows[0][0][0] == 0 and rows[0][0][1] == pytest.approx(float((residual**2).mean()), rel=1e-12)


@pytest.mark.slow  # a kernel of its own
def test_float32_follows_float64_at_first():
    for share in (0.1, 0.6):
        factorization, factors = starts((8, 8, 8), 64, 2, torch.float64)
        engine = FusedEngine(factorization, Schedule(stride=50))
        double = trained(engine, factors, problem_of((8, 8, 8), 2, share, torch.float64, iterations=50))[0]
        single = trained(
            engine, [f.float() for f in factors], problem_of((8, 8, 8), 2, share, torch.float32, iterations=50)
        )[0]
        for a, b in zip(double, single, strict=True):
            torch.testing.assert_close(a, b.double(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, pytest.param(torch.float32, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("dims", "components", "share"), [((8, 8, 8), 64, 0.5), ((8, 8, 8), 64, 0.1), ((3, 4, 5, 2), 70, 0.3)]
)
def test_bits_depend_on_neither_company_nor_threads_nor_chunks(dims, components, share, dtype):
    runs = 7
    factorization, factors = starts(dims, components, runs, dtype, scale=0.1)
    problem = problem_of(dims, runs, share, dtype, iterations=1500, stop=1e-5)
    schedule = Schedule(stride=100, stop_checks=2)
    whole = trained(FusedEngine(factorization, schedule, threads=2), factors, problem)
    assert len(set(whole[1].iteration.tolist())) > 1
    for threads, length in ((1, 10_000), (2, 300), (3, 100)):
        again = trained(FusedEngine(factorization, schedule, threads), factors, problem, length)
        assert all(torch.equal(a, b) for a, b in zip(whole[0], again[0], strict=True)) and again[2] == whole[2]
    for run in (0, 4):
        alone = trained(FusedEngine(factorization, schedule), *some(factors, problem, [run]))
        assert all(torch.equal(a[run], b[0]) for a, b in zip(whole[0], alone[0], strict=True))
        assert alone[2][0] == whole[2][run]


def test_the_stop_needs_three_checks_in_a_row():
    factorization, factors = starts((4, 4, 4), 16, 3, torch.float64, scale=0.1)
    problem = problem_of((4, 4, 4), 3, 0.6, torch.float64, iterations=5000, stop=1e-4)
    for engine in (FusedEngine, ReferenceEngine):
        iterations = []
        for checks in (1, 3):
            schedule = Schedule(stride=100, every=100, stop_checks=checks)
            made = engine(factorization, schedule)
            _, progress, rows = trained(made, factors, problem)
            assert (progress.status == Status.CONVERGED).all()
            iterations.append(progress.iteration.tolist())
            for run in range(3):
                losses = [row[1] for row in rows[run]]
                below = [loss < 1e-4 for loss in losses]
                assert all(below[-checks:]) and not any(all(below[i : i + checks]) for i in range(len(below) - checks))
        assert all(a + 200 <= b for a, b in zip(*iterations, strict=True))


@pytest.mark.slow
def test_order_2_is_the_depth_2_matrix_factorization():
    """T = A_1 A_2', so A_1 is W_2 and A_2' is W_1; the mean's step is the half sum's with eta * 2 / n."""
    factorization, factors = starts((5, 4), 3, 2, torch.float64)
    problem = problem_of((5, 4), 2, 0.7, torch.float64, adaptive=False, eta=0.1, iterations=500)
    fast = trained(FusedEngine(factorization, Schedule()), factors, problem)[0]
    as_matrix = Problem(
        problem.operator, problem.values, problem.eta * problem.loss_scale, problem.stop_loss, problem.max_iterations,
        torch.ones(2, dtype=torch.float64),
    )  # fmt: skip
    below, above = trained(
        FusedEngine(chain((4, 3, 5)), Schedule()), [factors[1].mT.contiguous(), factors[0]], as_matrix
    )[0]
    torch.testing.assert_close(fast[0], above, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(fast[1], below.mT, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "sizes",
    [
        (2, 2, 2),
        pytest.param((5, 5, 5, 5), marks=pytest.mark.slow),
        pytest.param((12, 6, 14), marks=pytest.mark.slow),
        (66, 5, 65),
    ],
)
def test_the_adaptive_rate_serves_matrices_too(sizes):
    """Each family of kernels: straight, ordered in lanes and alone, BLAS; eight runs beside and one."""
    dims = (sizes[-1], sizes[0])
    factorization = MatrixFactorization(dims, len(sizes) - 1, list(sizes[1:-1]))
    runs = 20 if max(sizes) < 20 else 3
    drawn = [factorization.start(Gaussian(0.3), seed) for seed in range(runs)]
    factors = [torch.stack(layer) for layer in zip(*drawn, strict=True)]
    problem = problem_of(dims, runs, 0.6, torch.float64, iterations=300)
    schedule = Schedule()
    fast, progress, rows = trained(FusedEngine(factorization, schedule), factors, problem)
    at = [0, runs - 1]
    slow, slow_progress, _ = trained(ReferenceEngine(factorization, schedule), *some(factors, problem, at))
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a[at], b, rtol=1e-8, atol=1e-11)
    torch.testing.assert_close(progress.mean_square[at], slow_progress.mean_square, rtol=1e-8, atol=0)
    torch.testing.assert_close(progress.weight, torch.full((runs,), 1 - 0.99**300, dtype=torch.float64))
    alone = trained(FusedEngine(factorization, schedule), *some(factors, problem, [runs - 1]), 50)
    assert all(torch.equal(a[-1], b[0]) for a, b in zip(fast, alone[0], strict=True)) and alone[2][0] == rows[runs - 1]


@pytest.mark.parametrize("dims", [(2, 3, 4), (3, 5), (2, 3, 2, 2)])
def test_linear_ends_at_the_observations_and_zeros_elsewhere(dims):
    factorization = LinearFactorization(dims)
    factors = [torch.zeros(2, *dims, dtype=torch.float64)]
    problem = problem_of(dims, 2, 0.5, torch.float64, iterations=20_000, stop=1e-14)
    final, progress, _ = trained(FusedEngine(factorization, Schedule(stride=100)), factors, problem)
    assert (progress.status == Status.CONVERGED).all()
    torch.testing.assert_close(final[0], problem.values, atol=1e-5, rtol=0)
    assert (final[0][problem.operator == 0] == 0).all()


@pytest.mark.parametrize(("dims", "components"), SHAPES)
def test_products_are_einsums_and_do_not_depend_on_the_batch(dims, components):
    factorization, factors = starts(dims, components, 9, torch.float32)
    whole = cp_tensors(factorization.form, factors)
    torch.testing.assert_close(whole, factorization.product([f.double() for f in factors]), rtol=1e-12, atol=1e-12)
    assert torch.equal(cp_tensors(factorization.form, [f[4:5] for f in factors])[0], whole[4])
    assert cp_tensors(factorization.form, [f[:0] for f in factors]).shape == (0, *dims)


def test_products_of_other_factorizations():
    linear = LinearFactorization((2, 3, 4))
    assert torch.equal(product_of(linear)([torch.ones(5, 2, 3, 4)]), torch.ones(5, 2, 3, 4, dtype=torch.float64))

    class Halved(LinearFactorization):
        form = None

        def product(self, factors):
            return factors[0] / 2

    halves = product_of(Halved((2, 3)))
    assert torch.equal(halves([torch.ones(4, 2, 3)]), torch.full((4, 2, 3), 0.5, dtype=torch.float64))
    assert halves([torch.ones(0, 2, 3)]).shape == (0, 2, 3)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("dims", "components"), [*SHAPES, ((8, 8, 8, 8), 512), ((2, 100, 3), 6)])
def test_packing_loses_nothing(dims, components, dtype):
    plan, random = Plan(dims, components, dtype), np.random.default_rng(0)
    factors = [random.standard_normal((3, dim, components)).astype(dtype) for dim in dims]
    packed = plan.packed(factors)
    assert packed.shape == (3, plan.parameters) and np.count_nonzero(packed) == sum(f.size for f in factors)
    for a, b in zip(plan.unpacked(packed), factors, strict=True):
        np.testing.assert_array_equal(a, b)
    array = random.standard_normal((3, *dims))
    np.testing.assert_array_equal(plan.untiled(plan.tiled(array)), array)


def test_a_run_that_diverges_stops_alone():
    factorization, factors = starts((4, 3, 2), 6, 5, torch.float64)
    problem = problem_of((4, 3, 2), 5, 0.5, torch.float64, adaptive=False, iterations=400)
    calm = trained(FusedEngine(factorization, Schedule(stride=100)), factors, problem)
    problem.eta[2] = 1e6
    wild = trained(FusedEngine(factorization, Schedule(stride=100)), factors, problem)
    assert wild[1].status[2] == Status.DIVERGED and wild[1].iteration[2] == 100
    others = [0, 1, 3, 4]
    assert all(torch.equal(a[others], b[others]) for a, b in zip(calm[0], wild[0], strict=True))
