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
def residual(state, scratch, sizes):
    """Partial products W_l ... W_1 (layer 0 stays in `state`) and, over the last, the masked residual."""
    layers = sizes.size - 1
    width = sizes[0]
    weights = 0
    for layer in range(layers):
        weights += sizes[layer] * sizes[layer + 1]
    at = 0
    partial = 0
    for i in range(sizes[1] * width):
        store(scratch, i * LANES, load(state, i * LANES))
    for layer in range(1, layers):
        at += sizes[layer] * sizes[layer - 1]
        following = partial + sizes[layer] * width
        multiply(
            scratch, following, state, at, sizes[layer], 1, scratch, partial, sizes[layer + 1], width, sizes[layer]
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
def losses(state, scratch, sizes, loss):
    partial = residual(state, scratch, sizes)
    first = load(scratch, partial * LANES)
    total = first * first
    for i in range(1, sizes[0] * sizes[sizes.size - 1]):
        error = load(scratch, (partial + i) * LANES)
        total = total + error * error
    store(loss, 0, total)
    for lane in range(LANES):
        loss[lane] *= 0.5


@numba.njit(cache=True, nogil=True)
def advance(state, scratch, sizes, steps):
    layers = sizes.size - 1
    width = sizes[0]
    rows = sizes[layers]
    weights = 0
    widest = 0
    partials = 0
    for layer in range(layers):
        weights += sizes[layer] * sizes[layer + 1]
        partials += sizes[layer + 1] * width
        widest = max(widest, sizes[layer])
    widest = max(widest, rows)
    spare = partials
    other = spare + widest * width
    transpose = other + widest * width
    gradients = transpose + widest * widest
    rates = weights + 2 * rows * width
    for _ in range(steps):
        partial = residual(state, scratch, sizes)
        signal = partial
        target = spare
        at = weights
        for layer in range(layers - 1, 0, -1):
            below = sizes[layer]
            at -= sizes[layer + 1] * below
            partial -= below * width
            # The gradient W_L..W_{l+1}' E (W_{l-1}..W_1)', then the signal W_l' E for the layer beneath.
            multiply_transposed(scratch, gradients + at, signal, partial, sizes[layer + 1], below, width, transpose)
            multiply(scratch, target, state, at, 1, below, scratch, signal, below, width, sizes[layer + 1])
            signal = target
            target = other if target == spare else spare
        for i in range(sizes[1] * width):
            store(scratch, (gradients + i) * LANES, load(scratch, (signal + i) * LANES))
        square = load(scratch, gradients * LANES) * load(scratch, gradients * LANES)
        if ADAPTIVE:
            for i in range(1, weights):
                slope = load(scratch, (gradients + i) * LANES)
                square = square + slope * slope
        eta = step_size(state, rates, square)
        for i in range(weights):
            step = eta * load(scratch, (gradients + i) * LANES)
            store(state, i * LANES, load(state, i * LANES) - step)
