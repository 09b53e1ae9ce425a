# Text, not a module: matrix products of one run, columns side by side in registers; a text above brings `in_registers`.
# Every result is the same ordered sum as in the text for LANES runs, so its bits are the same.
# mypy: ignore-errors


@numba.njit(inline="always")
def multiply_strided(out, o, a, ao, ar, ac, b, bo, br, bc, rows, cols, inner, spare):
    """out[i, j] = sum over ascending k of a[i, k] * b[k, j].

    A right matrix whose neighbours in a row do not lie side by side is put in order at `spare` of the result's array.
    """
    if bc != 1 and cols > 1:
        for k in range(inner):
            for j in range(cols):
                out[spare + k * cols + j] = b[bo + j * bc + k * br]
        b, bo, br = out, spare, cols
    in_registers(out, o, a, ao, ar, ac, b, bo, br, 1, rows, cols, inner)
