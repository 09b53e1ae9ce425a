# Text, not a module: what all kernels share: memory, and the step from a gradient of Equation 1's half sum.
# mypy: ignore-errors


@numba.njit(cache=True, nogil=True)
def aligned(size, dtype):
    """Zeros that begin at a cache line, as vectors of 64 bytes should."""
    room = np.zeros(size + 16, dtype)
    start = (-room.ctypes.data % 64) // room.itemsize
    return room[start : start + size]


@numba.njit(cache=True, nogil=True)
def step_size(state, rates, square):
    """The factor of the half sum's gradient, from its square norm.

    `rates` is where the state keeps eta, scale (of the loss over the half sum), beta, 1 - beta, eps, and what an
    adaptive rate remembers: the square norm's running mean, and the sum of its weights, which corrects its bias.
    """
    at = rates * LANES
    eta, scale = load(state, at), load(state, at + LANES)
    if not ADAPTIVE:
        return eta * scale
    beta, rest, eps = load(state, at + 2 * LANES), load(state, at + 3 * LANES), load(state, at + 4 * LANES)
    mean = beta * load(state, at + 5 * LANES) + rest * (square * (scale * scale))
    weight = beta * load(state, at + 6 * LANES) + rest
    store(state, at + 5 * LANES, mean)
    store(state, at + 6 * LANES, weight)
    return quotient(eta, root(quotient(mean, weight)) + eps) * scale
