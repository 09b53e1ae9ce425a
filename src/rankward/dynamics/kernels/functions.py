"""Exponentials and what follows from them as text, from plain arithmetic: the same bits on any processor, in any lane.

Library functions would differ between machines, and between a lane and a number alone. Errors in units in the last
place: at most 1 for `logarithm`, 1.5 for `exponential` and `tangent`, 2.5 for `logistic`, which is zero below the
argument at which the exponential of the opposite number overflows.
"""

from __future__ import annotations

import math

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

# The normal quantile of Wichura's AS 241, PPND16: quotients of polynomials, the highest power first. Around the median
# in 0.425^2 - q^2, times q, the distance of the probability from 1/2; in the tails, down to e^-25, in r - 1.6, r the
# root of the negative logarithm of the smaller probability.
CENTRAL_REACH, CENTRAL_FROM, TAIL_START = 0.425, 0.180625, 1.6
CENTRAL = (
    2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
    1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0,
)  # fmt: skip
CENTRAL_BELOW = (
    5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
    5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0,
)  # fmt: skip
TAIL = (
    7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0,
    3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0,
)  # fmt: skip
TAIL_BELOW = (
    1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
    6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0, 1.0,
)  # fmt: skip


def normal_source(fill: str) -> str:
    """The function `normal` of (like, q): the normal quantile of 1/2 + q, below `source`, for float64.

    The error is below 1e-15 of the value where 1/2 - |q| is at least e^-25.

    Args:
        fill: as in `source`.

    Source: Wichura, "Algorithm AS 241: the percentage points of the normal distribution" (Applied Statistics 37, 1988).
    """

    def chosen(central: float, tail: float) -> str:
        return f"choose(size, reach, {fill}(like, {central!r}), {fill}(like, {tail!r}))"

    def polynomial(central: tuple[float, ...], tail: tuple[float, ...]) -> str:
        pairs = list(zip(central, tail, strict=True))
        text = chosen(*pairs[0])
        for pair in pairs[1:]:
            text = f"({text} * at + {chosen(*pair)})"
        return text

    return f"""

@numba.njit(cache=True, nogil=True)
def normal(like, q):
    zero, one, reach = {fill}(like, 0.0), {fill}(like, 1.0), {fill}(like, {CENTRAL_REACH!r})
    size = choose(zero, q, q, zero - q)
    r = root(zero - logarithm(like, {fill}(like, 0.5) - size)) - {fill}(like, {TAIL_START!r})
    at = choose(size, reach, {fill}(like, {CENTRAL_FROM!r}) - q * q, r)
    above = {polynomial(CENTRAL, TAIL)}
    below = {polynomial(CENTRAL_BELOW, TAIL_BELOW)}
    return choose(size, reach, q, choose(zero, q, one, zero - one)) * quotient(above, below)
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
