# Text, not a module: matrix products of one run through BLAS, for matrices that no longer fit in registers or cache.
# mypy: ignore-errors


@numba.njit(cache=True, nogil=True)
def multiply(out, o, a, ao, ar, ac, b, bo, rows, cols, inner):
    right = b[bo : bo + inner * cols].reshape(inner, cols)
    result = out[o : o + rows * cols].reshape(rows, cols)
    if ac == 1:
        np.dot(a[ao : ao + rows * inner].reshape(rows, inner), right, result)
    else:
        np.dot(a[ao : ao + rows * inner].reshape(inner, rows).T, right, result)


@numba.njit(cache=True, nogil=True)
def multiply_transposed(scratch, o, ao, bo, rows, cols, inner, transpose):
    left = scratch[ao : ao + rows * inner].reshape(rows, inner)
    right = scratch[bo : bo + cols * inner].reshape(cols, inner)
    np.dot(left, right.T, scratch[o : o + rows * cols].reshape(rows, cols))
