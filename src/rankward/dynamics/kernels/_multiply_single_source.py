# Text, not a module: matrix products of one run, columns side by side in registers.
# Every result is the same ordered sum as in the text for LANES runs, so its bits are the same.
# mypy: ignore-errors


@numba.njit(cache=True, nogil=True, inline="never")
def multiply(out, o, a, ao, ar, ac, b, bo, br, rows, cols, inner):
    """out[i, j] = sum over ascending k of a[i, k] * b[k, j], b's rows `br` apart; wide over j, which no sum runs along."""
    j = 0
    while j + 2 * WIDE <= cols:
        for i in range(rows):
            x = spread(a, ao + i * ar)
            c0, c1 = x * load_wide(b, bo + j), x * load_wide(b, bo + j + WIDE)
            for k in range(1, inner):
                x = spread(a, ao + i * ar + k * ac)
                at = bo + k * br + j
                c0, c1 = c0 + x * load_wide(b, at), c1 + x * load_wide(b, at + WIDE)
            store_wide(out, o + i * cols + j, c0)
            store_wide(out, o + i * cols + j + WIDE, c1)
        j += 2 * WIDE
    while j + WIDE <= cols:
        for i in range(rows):
            c0 = spread(a, ao + i * ar) * load_wide(b, bo + j)
            for k in range(1, inner):
                c0 = c0 + spread(a, ao + i * ar + k * ac) * load_wide(b, bo + k * br + j)
            store_wide(out, o + i * cols + j, c0)
        j += WIDE
    while j < cols:
        for i in range(rows):
            c = a[ao + i * ar] * b[bo + j]
            for k in range(1, inner):
                c = c + a[ao + i * ar + k * ac] * b[bo + k * br + j]
            out[o + i * cols + j] = c
        j += 1


@numba.njit(cache=True, nogil=True)
def multiply_strided(out, o, a, ao, ar, ac, b, bo, br, bc, rows, cols, inner, spare):
    """`multiply` where the right matrix lies anyhow: it is put in order at `spare` of the result's array."""
    if bc == 1 or cols == 1:
        multiply(out, o, a, ao, ar, ac, b, bo, br, rows, cols, inner)
        return
    for j in range(cols):
        for k in range(inner):
            out[spare + k * cols + j] = b[bo + j * bc + k * br]
    multiply(out, o, a, ao, ar, ac, out, spare, cols, rows, cols, inner)
