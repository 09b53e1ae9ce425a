# Text, not a module: memory of all kernels.
# mypy: ignore-errors


@numba.njit(cache=True, nogil=True)
def aligned(size, dtype):
    """Zeros that begin at a cache line, as vectors of 64 bytes should."""
    room = np.zeros(size + 16, dtype)
    start = (-room.ctypes.data % 64) // room.itemsize
    return room[start : start + size]
