# Text, not a module: arithmetic of one run, WIDE neighbouring elements at once; it may go on beyond the end of a block.
# mypy: ignore-errors


@numba.njit(cache=True, nogil=True)
def get(array, at, i, step):
    return load_wide(array, at + i * WIDE) if step else spread(array, at)


@numba.njit(cache=True, nogil=True)
def put(array, at, i, value):
    store_wide(array, at + i * WIDE, value)


@numba.njit(cache=True, nogil=True)
def turns(count):
    return -(-count // WIDE)
