# Text, not a module: gradient descent on a chain of matrices of any depth and sizes, below one of the `multiply` texts.
# mypy: ignore-errors


@numba.njit(cache=True, nogil=True)
def scratch_size(sizes):
    """Elements a lane for the partial products, two back-propagated signals, one transpose and the gradients."""
    layers = sizes.size - 1
    widest = 0
    total = 0
    for layer in range(layers):
        total += sizes[layer + 1] * (sizes[0] + sizes[layer])
        widest = max(widest, sizes[layer])
    widest = max(widest, sizes[layers])
    return total + 2 * widest * sizes[0] + widest * widest


@numba.njit(cache=True, nogil=True)
def weights_of(sizes):
    weights = 0
    for layer in range(sizes.size - 1):
        weights += sizes[layer] * sizes[layer + 1]
    return weights


@numba.njit(cache=True, nogil=True)
def rates_of(sizes):
    """Where the state keeps rates: behind weights, mask and values."""
    return weights_of(sizes) + 2 * sizes[0] * sizes[sizes.size - 1]


@numba.njit(cache=True, nogil=True)
def residual(factors, origin, state, scratch, sizes):
    """Partial products W_l ... W_1 of `factors`, which begin at `origin`, and over the last the masked residual."""
    layers = sizes.size - 1
    width = sizes[0]
    weights = weights_of(sizes)
    at = origin
    partial = 0
    for i in range(sizes[1] * width):
        store(scratch, i * LANES, load(factors, (origin + i) * LANES))
    for layer in range(1, layers):
        at += sizes[layer] * sizes[layer - 1]
        following = partial + sizes[layer] * width
        multiply(
            scratch, following, factors, at, sizes[layer], 1, scratch, partial, sizes[layer + 1], width, sizes[layer]
        )
        partial = following
    entries = sizes[layers] * width
    mask_at = weights
    values_at = weights + entries
    for i in range(entries):
        error = load(scratch, (partial + i) * LANES) - load(state, (values_at + i) * LANES)
        store(scratch, (partial + i) * LANES, load(state, (mask_at + i) * LANES) * error)
    return partial


@numba.njit(cache=True, nogil=True)
def twice_half_sum(scratch, sizes, partial):
    first = load(scratch, partial * LANES)
    total = first * first
    for i in range(1, sizes[0] * sizes[sizes.size - 1]):
        error = load(scratch, (partial + i) * LANES)
        total = total + error * error
    return total


@numba.njit(cache=True, nogil=True)
def losses(state, scratch, sizes, loss):
    partial = residual(state, 0, state, scratch, sizes)
    store(loss, 0, twice_half_sum(scratch, sizes, partial))
    for lane in range(LANES):
        loss[lane] *= 0.5


@numba.njit(cache=True, nogil=True, inline="always")
def back_propagate(factors, origin, state, scratch, sizes, gradients):
    """Gradients of the half sum, layer after layer; where the residual lies."""
    layers = sizes.size - 1
    width = sizes[0]
    widest = 0
    spare = 0
    for layer in range(layers):
        spare += sizes[layer + 1] * width
        widest = max(widest, sizes[layer])
    widest = max(widest, sizes[layers])
    other = spare + widest * width
    transpose = other + widest * width
    last = residual(factors, origin, state, scratch, sizes)
    partial = last
    signal = partial
    target = spare
    at = weights_of(sizes)
    for layer in range(layers - 1, 0, -1):
        below = sizes[layer]
        at -= sizes[layer + 1] * below
        partial -= below * width
        # The gradient W_L..W_{l+1}' E (W_{l-1}..W_1)', then the signal W_l' E for the layer beneath.
        multiply_transposed(scratch, gradients + at, signal, partial, sizes[layer + 1], below, width, transpose)
        multiply(scratch, target, factors, origin + at, 1, below, scratch, signal, below, width, sizes[layer + 1])
        signal = target
        target = other if target == spare else spare
    for i in range(sizes[1] * width):
        store(scratch, (gradients + i) * LANES, load(scratch, (signal + i) * LANES))
    return last


@numba.njit(cache=True, nogil=True)
def slopes(factors, origin, state, scratch, sizes, out):
    """Gradients of the half sum at `factors`, and behind them the half sum."""
    last = back_propagate(factors, origin, state, scratch, sizes, out)
    store(scratch, (out + weights_of(sizes)) * LANES, fill(scratch, 0.5) * twice_half_sum(scratch, sizes, last))


@numba.njit(cache=True, nogil=True)
def advance(state, scratch, sizes, steps):
    weights, rates = weights_of(sizes), rates_of(sizes)
    gradients = scratch_size(sizes) - weights
    for _ in range(steps):
        back_propagate(state, 0, state, scratch, sizes, gradients)
        square = load(scratch, gradients * LANES) * load(scratch, gradients * LANES)
        if ADAPTIVE:
            for i in range(1, weights):
                slope = load(scratch, (gradients + i) * LANES)
                square = square + slope * slope
        eta = step_size(state, rates, square)
        for i in range(weights):
            step = eta * load(scratch, (gradients + i) * LANES)
            store(state, i * LANES, load(state, i * LANES) - step)
