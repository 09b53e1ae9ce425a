# Text, not a module: arithmetic of LANES runs at once; a text above brings `in_registers`.
# mypy: ignore-errors


@numba.njit(inline="always")
def multiply_strided(out, o, a, ao, ar, ac, b, bo, br, bc, rows, cols, inner, spare):
    """out[i, j] = sum over ascending k of a[i, k] * b[k, j]; offsets and strides count vectors of LANES."""
    in_registers(out, o, a, ao, ar, ac, b, bo, br, bc, rows, cols, inner)


@numba.njit(cache=True, nogil=True)
def get(array, at, i, step):
    return load(array, (at + i * step) * LANES)


@numba.njit(cache=True, nogil=True)
def put(array, at, i, value):
    store(array, (at + i) * LANES, value)


@numba.njit(cache=True, nogil=True)
def turns(count):
    return count
