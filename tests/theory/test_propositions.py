"""Propositions 1 to 4 tried out: they hold, and each tampered input turns its verdict."""

from functools import cache

import mpmath
import numpy as np
import pytest

from rankward.factorizations.initialisation import Gaussian, Identity
from rankward.theory import propositions
from rankward.theory.propositions import (
    format_findings,
    proposition_1,
    proposition_2,
    proposition_3,
    proposition_4,
    sign_frequency,
    symmetric_flow,
)
from rankward.theory.solution_set import SolutionSet


def test_propositions_1_and_2_hold():
    findings = [*proposition_1(ps=(1, np.inf)), *proposition_2()]
    assert all(finding.holds for finding in findings) and len(findings) == 2 + 2 * 12 + 2
    assert format_findings(findings).count("holds") == len(findings)


@pytest.mark.parametrize(
    "norm",
    [
        lambda self, entry, p: np.full(len(entry), 2.0),  # does not grow
        lambda self, entry, p: 2.0 + np.abs(entry - 0.5),  # is least elsewhere
        lambda self, entry, p: 2.0 + np.minimum(np.abs(entry), 100.0),  # stops growing
    ],
)
def test_a_schatten_norm_that_is_tampered_with_turns_proposition_1(monkeypatch, norm):
    monkeypatch.setattr(SolutionSet, "schatten_norm", norm)
    monkeypatch.setattr(propositions, "other_norms", list)
    findings = proposition_1(ps=(1, 2))
    assert len(findings) == 2 and not any(finding.holds for finding in findings)


@pytest.mark.parametrize("name", ["effective_rank", "distance_to_infimal_rank"])
def test_a_rank_that_stays_turns_proposition_2(monkeypatch, name):
    original = getattr(SolutionSet, name)
    monkeypatch.setattr(SolutionSet, name, lambda self, entry: original(self, np.minimum(np.abs(entry), 50.0)))
    verdicts = [finding.holds for finding in proposition_2()]
    assert verdicts == ([False, True] if name == "effective_rank" else [True, False])


def test_each_initialisation_has_draws_of_its_own_and_few_false_alarms():
    """Over 60 numbers of draws, four intervals each: none misses one half, and no two rows share their signs."""
    for draws in [14_000, *range(500, 3500, 50)]:
        findings = proposition_3(draws)
        assert all(finding.holds for finding in findings)
    shares = [finding.found.split(",")[0] for finding in findings]
    assert len(set(shares)) == 4


def test_symmetric_distributions_have_fair_signs_and_others_are_seen(monkeypatch):
    assert all(finding.holds for finding in propositions.symmetric_draws(2_000))
    shifted = {"shifted": lambda random, shape: random.uniform(-1, 1, shape) + np.eye(shape[-1])}
    monkeypatch.setattr(propositions, "SYMMETRIC", shifted)  # not symmetric: negating a row still turns each sign
    (finding,) = propositions.symmetric_draws(2_000)
    assert not finding.holds and "NOT in each" in finding.found and "turns every sign" in finding.found
    coins = {"coins": lambda random, shape: random.choice([-1.0, 1.0], shape)}  # not continuous: 0 is likely
    monkeypatch.setattr(propositions, "SYMMETRIC", coins)
    (finding,) = propositions.symmetric_draws(2_000)
    assert not finding.holds and "does NOT turn every sign" in finding.found


def test_a_sign_that_is_not_fair_turns_proposition_3(monkeypatch):
    fair = propositions.signs

    def biased(factors):
        found = fair(factors)
        found[::40] = 1  # of a fortieth: 0.5125 instead of 0.5
        return found

    monkeypatch.setattr(propositions, "signs", biased)
    assert not any(finding.holds for finding in proposition_3(200_000))


def test_proposition_4_holds_and_each_wrong_number_turns_it(monkeypatch):
    right = cache(symmetric_flow)
    monkeypatch.setattr(propositions, "symmetric_flow", right)
    assert proposition_4(alphas=(0.3,), stop_loss=1e-6)[0].holds
    for place, factor in ((0, 1.01), (1, 1.001), (3, 1.001)):

        def wrong(alpha, loss, place=place, factor=factor):
            found = list(right(alpha, loss))
            found[place] *= factor
            return tuple(found)

        monkeypatch.setattr(propositions, "symmetric_flow", wrong)
        assert not proposition_4(alphas=(0.3,), stop_loss=1e-6)[0].holds, place


def test_signs_are_fair_and_unfair_ones_are_seen():
    positive, (low, high) = sign_frequency(Gaussian(1.0), (3, 3, 3), draws=40_000)
    assert low < 0.5 < high and 0 < positive < 40_000
    assert sign_frequency(Identity(1.0), (2, 2, 2), draws=1000)[0] == 1000


def test_the_symmetric_flow_against_factors_in_many_digits():
    """Both factors by Runge-Kutta in 40 digits, where the determinant can be seen to fall and stay positive."""
    time, entry, loss, log_determinant = symmetric_flow(0.5, 0.05)
    mpmath.mp.dps = 40
    target = mpmath.matrix([[0, 1], [1, 0]])

    def slope(w):
        error = w * w.T - target
        error[0, 0] = 0
        return -(error * w)  # W_2 = W_1^T = w^T: the flow of one factor

    w, steps = mpmath.sqrt(mpmath.mpf("0.5")) * mpmath.eye(2), 400
    h = mpmath.mpf(time) / steps
    for _ in range(steps):
        a = slope(w)
        b = slope(w + h / 2 * a)
        c = slope(w + h / 2 * b)
        d = slope(w + h * c)
        w = w + h / 6 * (a + 2 * b + 2 * c + d)
    product = w * w.T
    assert float(product[0, 0]) == pytest.approx(entry, rel=1e-6)
    assert float(mpmath.log(mpmath.det(product))) == pytest.approx(log_determinant, rel=1e-6)
    assert float(((product[0, 1] - 1) ** 2 * 2 + product[1, 1] ** 2) / 2) == pytest.approx(loss, rel=1e-6)


def test_the_symmetric_flow_goes_as_far_as_asked():
    time, entry, loss, log_determinant = symmetric_flow(1.0, 1e-10)
    assert loss == pytest.approx(1e-10, rel=1e-8) and entry == pytest.approx(1 / np.sqrt(2e-10), rel=1e-4)
    assert time == pytest.approx(entry**3 / 6, rel=1e-3) and log_determinant == pytest.approx(-(entry**2) / 2, rel=1e-3)
