"""Gradient flow of depth 2 on Equation 6 in 66 digits: an oracle that shares nothing with the package.

Numbers are Python integers, in units of 2^-220. A step sums the Taylor series of all eight parameters, whose coefficients
follow from the equations by Cauchy products: W_1' = -W_2^T G and W_2' = -G W_1^T, with G = W_2 W_1 - [[0, 1], [1, 0]] where an
entry is observed. The step is chosen so that the last terms are below 10^-50.
"""

from fractions import Fraction

import mpmath

BITS = 220
ONE = 1 << BITS
ORDER = 48
TINY = ONE // 10**50
PAIRS = [(i, j) for i in (0, 1) for j in (0, 1)]


def fixed(number):
    """A float as an integer in units of 2^-220."""
    return int(Fraction(float(number)) * ONE)


def real(number):
    """Back, as an mpmath number of 66 digits."""
    with mpmath.workdps(66):
        return mpmath.mpf(number) / ONE


class ExactFlow:
    """The flow from float64 factors W_1, W_2 (nested lists or arrays), which are taken as they are."""

    def __init__(self, lower, upper):
        self.time = mpmath.mpf(0)
        self.lower = [[fixed(lower[i][j]) for j in (0, 1)] for i in (0, 1)]
        self.upper = [[fixed(upper[i][j]) for j in (0, 1)] for i in (0, 1)]

    def step(self, longest=None):
        """One step; its length."""
        a = {ij: [self.lower[ij[0]][ij[1]]] for ij in PAIRS}
        b = {ij: [self.upper[ij[0]][ij[1]]] for ij in PAIRS}
        g = {ij: [] for ij in PAIRS}

        def cauchy(x, y, n):
            return sum(x[k] * y[n - k] for k in range(n + 1)) >> BITS

        for n in range(ORDER):
            for i, j in PAIRS:
                product = cauchy(b[i, 0], a[0, j], n) + cauchy(b[i, 1], a[1, j], n)
                target = ONE if n == 0 and i != j else 0
                g[i, j].append(0 if (i, j) == (0, 0) else product - target)
            for i, j in PAIRS:
                down = cauchy(b[0, i], g[0, j], n) + cauchy(b[1, i], g[1, j], n)
                up = cauchy(g[i, 0], a[j, 0], n) + cauchy(g[i, 1], a[j, 1], n)
                a[i, j].append(-down // (n + 1))
                b[i, j].append(-up // (n + 1))
        largest = max(abs(series[-1]) for part in (a, b) for series in part.values())
        h = 1.0 if largest == 0 else (TINY / largest) ** (1 / ORDER)
        h = fixed(h if longest is None else min(h, longest))
        for part, factor in ((a, self.lower), (b, self.upper)):
            for (i, j), series in part.items():
                total = 0
                for coefficient in reversed(series):
                    total = ((total * h) >> BITS) + coefficient
                factor[i][j] = total
        self.time += real(h)
        return float(real(h))

    def until(self, time):
        """Go on to a time."""
        while float(self.time) < time:
            self.step(longest=time - float(self.time))

    @property
    def product(self):
        a, b = self.lower, self.upper
        return [[(b[i][0] * a[0][j] + b[i][1] * a[1][j]) >> BITS for j in (0, 1)] for i in (0, 1)]

    @property
    def sign(self):
        """The determinant's sign, of the factors one by one."""
        signs = [x[0][0] * x[1][1] - x[0][1] * x[1][0] for x in (self.lower, self.upper)]
        return (1 if signs[0] > 0 else -1) * (1 if signs[1] > 0 else -1)

    @property
    def entry(self):
        return float(real(self.product[0][0]))

    @property
    def loss(self):
        w = self.product
        with mpmath.workdps(66):
            return ((real(w[0][1]) - 1) ** 2 + (real(w[1][0]) - 1) ** 2 + real(w[1][1]) ** 2) / 2

    def squares(self):
        """The smallest and largest squared singular values of both factors, as mpmath numbers."""
        with mpmath.workdps(66):
            found = []
            for factor in (self.lower, self.upper):
                entries = [real(factor[i][j]) for i, j in PAIRS]
                total = mpmath.fsum(x * x for x in entries)
                determinant = entries[0] * entries[3] - entries[1] * entries[2]
                largest = (total + mpmath.sqrt(total**2 - 4 * determinant**2)) / 2
                found.append((determinant**2 / largest, largest))
            return found

    def imbalance(self):
        """The spectral norm of W_2^T W_2 - W_1 W_1^T."""
        a, b = self.lower, self.upper
        with mpmath.workdps(66):
            d = {
                (i, j): real((sum(b[k][i] * b[k][j] for k in (0, 1)) - sum(a[i][k] * a[j][k] for k in (0, 1))) >> BITS)
                for i, j in PAIRS
            }
            mean, half = (d[0, 0] + d[1, 1]) / 2, (d[0, 0] - d[1, 1]) / 2
            return abs(mean) + mpmath.sqrt(half**2 + d[0, 1] ** 2)
