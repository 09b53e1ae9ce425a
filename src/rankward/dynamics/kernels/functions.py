"""Exponentials and what follows from them as text, from plain arithmetic: the same bits on any processor, in any lane.

Library functions would differ between machines, and between a lane and a number alone. Errors in units in the last
place: at most 1 for `logarithm`, 1.5 for `exponential` and `tangent`, 2.5 for `logistic`, which is zero below the
argument at which the exponential of the opposite number overflows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

# Ranges, and ln 2 as a sum whose first part has few digits: its products with whole numbers are exact.
CONSTANTS = {
    "float64": (
        6755399441055744.0, 6.93147180369123816490e-01, 1.90821492927058770002e-10, -746.0, 710.0, 2.0**-1022, 54, 13,
    ),
    "float32": (12582912.0, 0.693359375, -2.12194440e-4, -104.0, 89.0, 2.0**-126, 24, 7),
}  # fmt: skip

# The logarithm of (1 + s) / (1 - s) by its odd powers: coefficients of FreeBSD's e_log.c.
LOGARITHM = (
    6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01, 2.222219843214978396e-01,
    1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01,
)  # fmt: skip

# The hyperbolic tangent below 0.625 by a quotient of polynomials: coefficients of Cephes' tanh.c.
TANGENT_ABOVE = (-9.64399179425052238628e-1, -9.92877231001918586564e1, -1.61468768441708447952e3)
TANGENT_BELOW = (1.0, 1.12811678491632931402e2, 2.23548839060100448583e3, 4.84406305325125486048e3)

# Cosine and sine by powers of the square of an angle up to pi/4: coefficients of FreeBSD's k_cos.c and k_sin.c.
COSINE = (
    1.0, -0.5, 4.16666666666666019037e-02, -1.38888888888741095749e-03, 2.48015872894767294178e-05,
    -2.75573143513906633035e-07, 2.08757232129817482790e-09, -1.13596475577881948265e-11,
)  # fmt: skip
SINE = (
    1.0, -1.66666666666666324348e-01, 8.33333333332248946124e-03, -1.98412698298579493134e-04,
    2.75573137070700676789e-06, -2.50507602534068634195e-08, 1.58969099521155010221e-10,
)  # fmt: skip


def normal_source(fill: str) -> str:
    """The function `normals` of (x, angle): two normal numbers without their signs, for float64.

    They are sqrt(-2 ln x) times the sine and the cosine of pi/4 + angle.

    Args:
        fill: as in `source`.

    Source: Box and Muller, "A note on the generation of random normal deviates" (Annals of Mathematical Statistics 29,
    1958).
    """

    def number(value: float) -> str:
        return f"{fill}(x, {value!r})"

    def polynomial(coefficients: Sequence[float]) -> str:
        text = number(coefficients[-1])
        for each in coefficients[-2::-1]:
            text = f"({text} * z + {number(each)})"
        return text

    return f"""

@numba.njit(cache=True, nogil=True)
def normals(x, angle):
    m, k = split_power(x)
    f = m - {number(1.0)}
    s = quotient(f, {number(2.0)} + f)
    z = s * s
    size = root((s * (f - z * {polynomial(LOGARITHM)}) - f) - k * {number(math.log(2))})
    z = angle * angle
    cosine = {polynomial(COSINE)}
    sine = angle * {polynomial(SINE)}
    return size * (cosine + sine), size * (cosine - sine)
"""


def source(dtype: str, fill: str = "fill") -> str:
    """The functions `exponential`, `logarithm`, `tangent` and `logistic` of (like, x).

    Args:
        dtype: `float64` or `float32`.
        fill: the function that makes a value of all lanes.
    """
    magic, high, low, least, most, normal, digits, degree = CONSTANTS[dtype]
    series = tuple(1 / math.factorial(power) for power in range(degree, -1, -1))

    def number(value: float) -> str:
        return f"fill(like, {value!r})"

    def polynomial(coefficients: tuple[float, ...], at: str) -> str:
        text = number(coefficients[0])
        for each in coefficients[1:]:
            text = f"({text} * {at} + {number(each)})"
        return text

    def function(name: str, *lines: str) -> str:
        body = "\n".join(f"    {line}" for line in lines)
        return f"\n\n@numba.njit(cache=True, nogil=True)\ndef {name}(like, x):\n{body}\n"

    text = "\nINFINITY, UNDEFINED = math.inf, math.nan\n"
    text += function(
        "exponential",
        f"x = choose({number(most)}, x, {number(most)}, x)",
        f"x = choose(x, {number(least)}, {number(least)}, x)",
        f"n = (x * {number(1 / math.log(2))} + {number(magic)}) - {number(magic)}",
        f"r = (x - n * {number(high)}) - n * {number(low)}",
        "n = choose(n, n, n, fill(like, 0.0))",  # of what is not a number there is no power
        f"half = (n * fill(like, 0.5) + {number(magic)}) - {number(magic)}",
        f"return {polynomial(series, 'r')} * power_of_two(half) * power_of_two(n - half)",
    )
    text += function(
        "logarithm",
        f"usual = choose({number(normal)}, x, fill(like, 1.0), fill(like, 0.0))",
        f"y = choose(fill(like, 0.5), usual, x, x * {number(2.0**digits)})",
        f"k = exponent(y) - choose(fill(like, 0.5), usual, fill(like, 0.0), {number(float(digits))})",
        "m = mantissa(y)",
        f"k = k + choose({number(math.sqrt(2))}, m, fill(like, 1.0), fill(like, 0.0))",
        f"m = choose({number(math.sqrt(2))}, m, m * fill(like, 0.5), m)",
        "f = m - fill(like, 1.0)",
        "s = quotient(f, fill(like, 2.0) + f)",
        "z = s * s",
        f"r = z * {polynomial(LOGARITHM[::-1], 'z')}",
        "h = fill(like, 0.5) * f * f",
        f"y = k * {number(high)} - ((h - (s * (h + r) + k * {number(low)})) - f)",
        "y = choose(fill(like, INFINITY), x, x, y)",
        "edge = choose(fill(like, 0.0), x, fill(like, -INFINITY), fill(like, UNDEFINED))",
        "y = choose(x, fill(like, 0.0), edge, y)",
        "return choose(x, x, y, x)",
    )
    text += function(
        "tangent",
        "size = choose(fill(like, 0.0), x, x, fill(like, 0.0) - x)",
        "z = x * x",
        f"near = x + x * z * quotient({polynomial(TANGENT_ABOVE, 'z')}, {polynomial(TANGENT_BELOW, 'z')})",
        "near = choose(z, fill(like, 0.0), x, near)",  # also -0.0
        "far = fill(like, 1.0) - quotient(fill(like, 2.0), exponential(like, size + size) + fill(like, 1.0))",
        "far = choose(fill(like, 0.0), x, far, fill(like, 0.0) - far)",
        "return choose(size, fill(like, 0.625), near, far)",
    )
    text += function(
        "logistic", "return quotient(fill(like, 1.0), fill(like, 1.0) + exponential(like, fill(like, 0.0) - x))"
    )
    return text.replace("fill(", f"{fill}(")
