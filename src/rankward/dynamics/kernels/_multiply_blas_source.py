# Text, not a module: matrix products of one run through BLAS, for matrices that no longer fit in registers or cache.
# mypy: ignore-errors


@numba.njit(inline="always")
def multiply_strided(out, o, a, ao, ar, ac, b, bo, br, bc, rows, cols, inner, spare):
    """out[i, j] = sum over k of a[i, k] * b[k, j]; what is neither row-major nor its transpose is copied to `spare`."""
    result = out[o : o + rows * cols].reshape(rows, cols)
    if not ((ac == 1 and ar == inner) or (ar == 1 and ac == rows)):
        put_in_order(out, spare, a, ao, ar, ac, rows, inner)
        a, ao, ar, ac = out, spare, inner, 1
    if not ((bc == 1 and br == cols) or (br == 1 and bc == inner)):
        put_in_order(out, spare + rows * inner, b, bo, br, bc, inner, cols)
        b, bo, br, bc = out, spare + rows * inner, cols, 1
    left, right = a[ao : ao + rows * inner], b[bo : bo + inner * cols]
    if ac == 1 and ar == inner:
        if bc == 1 and br == cols:
            np.dot(left.reshape(rows, inner), right.reshape(inner, cols), result)
        else:
            np.dot(left.reshape(rows, inner), right.reshape(cols, inner).T, result)
    elif bc == 1 and br == cols:
        np.dot(left.reshape(inner, rows).T, right.reshape(inner, cols), result)
    else:
        np.dot(left.reshape(inner, rows).T, right.reshape(cols, inner).T, result)


@numba.njit(cache=True, nogil=True)
def put_in_order(out, o, array, at, row, col, rows, cols):
    for i in range(rows):
        for j in range(cols):
            out[o + i * cols + j] = array[at + i * row + j * col]
