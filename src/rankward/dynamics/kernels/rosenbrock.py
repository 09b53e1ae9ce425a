"""Rodas5P, a Rosenbrock method of order 5 for stiff equations, as constants of a kernel's text.

With J the Jacobian, h the step and W = I / (GAMMA h) - J, stage i solves W u_i = f(y + sum_j A_ij u_j) +
sum_j C_ij u_j / h. The step ends at the argument of the last stage plus its u, and that u is the estimate of the error.
The method is stiffly accurate and L-stable, and its embedded method of order 4 is stable, too.

Source: Steinebach, "Construction of Rosenbrock-Wanner method Rodas5P" (BIT Numerical Mathematics 63, 2023).
"""

from __future__ import annotations

GAMMA = 0.21193756319429014
_SIXTH = (-7.502846399306121, 2.561846144803919, -11.627539656261098, -0.18268767659942256, 0.030198172008377946)
A = (
    (),
    (3.0,),
    (2.849394379747939, 0.45842242204463923),
    (-6.954028509809101, 2.489845061869568, -10.358996098473584),
    (2.8029986275628964, 0.5072464736228206, -0.3988312541770524, -0.04721187230404641),
    _SIXTH,
    (*_SIXTH, 1.0),
    (*_SIXTH, 1.0, 1.0),
)
C = (
    (),
    (-14.155112264123755,),
    (-17.97296035885952, -2.859693295451294),
    (147.12150275711716, -1.41221402718213, 71.68940251302358),
    (165.43517024871676, -0.4592823456491126, 42.90938336958603, -5.961986721573306),
    (24.854864614690072, -3.0009227002832186, 47.4931110020768, 5.5814197821558125, -0.6610691825249471),
    (
        30.91273214028599, -3.1208243349937974, 77.79954646070892, 34.28646028294783, -19.097331116725623,
        -28.087943162872662,
    ),
    (
        37.80277123390563, -3.2571969029072276, 112.26918849496327, 66.9347231244047, -40.06618937091002,
        -54.66780262877968, -9.48861652309627,
    ),
)  # fmt: skip


def source() -> str:
    """The constants GAMMA, and A and C as square arrays with zeros on and above the diagonal."""
    square = {
        name: tuple((*row, *[0.0] * (len(rows) - len(row))) for row in rows) for name, rows in (("A", A), ("C", C))
    }
    arrays = "".join(f"{name} = np.array({rows!r})\n" for name, rows in square.items())
    return f"\nGAMMA = {GAMMA!r}\n{arrays}"
