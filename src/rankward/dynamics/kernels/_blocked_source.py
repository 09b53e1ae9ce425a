# Text, not a module: losses and gradients of a graph by its instructions; a text above brings `run`.
# mypy: ignore-errors

# The state goes on into the scratch: both are one array, and instructions name places in it.


@numba.njit(cache=True, nogil=True)
def scratch_size(sizes):
    return sizes[SCRATCH]


@numba.njit(cache=True, nogil=True)
def weights_of(sizes):
    return sizes[WEIGHTS]


@numba.njit(cache=True, nogil=True)
def rates_of(sizes):
    return sizes[FIELDS]


@numba.njit(cache=True, nogil=True)
def begin(state, sizes):
    """Put constants where the instructions look for them."""
    at = sizes[CONSTANTS_BEGIN]
    while at < sizes[CONSTANTS_END]:
        values = sizes[at + 2 : at + 2 + sizes[at + 1]].view(np.float64)
        for i in range(sizes[at + 1]):
            store(state, (sizes[at] + i) * LANES, fill(state, values[i]))
        at += 2 + sizes[at + 1]


@numba.njit(cache=True, nogil=True)
def run(state, sizes, begin, end):
    """Carry out instructions."""
    instructions(state.ctypes, state.size, sizes.ctypes, sizes.size, sizes[begin], sizes[end])


@numba.njit(cache=True, nogil=True)
def losses(state, scratch, sizes, loss):
    begin(state, sizes)
    run(state, sizes, LOSS_BEGIN, LOSS_END)
    store(loss, 0, load(state, sizes[HALF] * LANES))


@numba.njit(cache=True, nogil=True)
def slopes(factors, origin, state, scratch, sizes, out):
    """Gradients of the half sum at `factors`, and behind them the half sum."""
    begin(state, sizes)
    for i in range(sizes[WEIGHTS]):
        store(state, (sizes[OWN] + i) * LANES, load(factors, (origin + i) * LANES))
    run(state, sizes, ALL_BEGIN, ALL_END)
    for factor in range(sizes[FACTORS]):
        at = FIRST_FACTOR + OF_FACTOR * factor
        for i in range(sizes[at]):
            store(scratch, (out + sizes[at + 1] + i) * LANES, load(state, (sizes[at + 3] + i) * LANES))
    store(scratch, (out + sizes[WEIGHTS]) * LANES, load(state, sizes[HALF_OF_ALL] * LANES))


@numba.njit(cache=True, nogil=True)
def evaluate(queue, sizes, factors, out):
    """The product matrix of every row of factors; a ticket of the queue is LANES rows."""
    state = aligned(sizes[SCRATCH] * LANES, factors.dtype)
    begin(state, sizes)
    while True:
        first = draw(queue) * LANES
        if first >= len(factors):
            return
        for lane in range(LANES):
            row = min(first + lane, len(factors) - 1)
            for i in range(sizes[WEIGHTS]):
                state[i * LANES + lane] = factors[row, i]
        run(state, sizes, ALL_BEGIN, ALL_END)
        for lane in range(min(LANES, len(factors) - first)):
            for i in range(out.shape[1]):
                out[first + lane, i] = state[(sizes[HALF] + i) * LANES + lane]
