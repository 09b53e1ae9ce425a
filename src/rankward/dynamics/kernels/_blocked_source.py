# Text, not a module: a loop over the instructions of `blocked.py`, below `functions.py` and one of the `multiply` texts.
# A text above brings `get`, `put` and `turns`: a number is a vector of runs, or of neighbouring elements of one run.
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
def run(state, sizes, at, end):
    """Carry out the instructions from `at` to `end`."""
    while at < end:
        kind = sizes[at]
        if kind == ELEMENTS:
            count, span, lines = sizes[at + 1], sizes[at + 2], sizes[at + 3]
            first = 0
            while first < count:
                for line in range(lines):
                    carry_out(state, sizes, at + 4 + 11 * line, first, min(span, count - first))
                first += span
            at += 4 + 11 * lines
        elif kind == PRODUCT:
            rows, cols, inner, out = sizes[at + 2], sizes[at + 3], sizes[at + 4], sizes[at + 5]
            left, right = sizes[at + 6], sizes[at + 10]
            for _ in range(sizes[at + 1]):
                multiply_strided(
                    state, out, state, left, sizes[at + 8], sizes[at + 9], state, right, sizes[at + 12], sizes[at + 13],
                    rows, cols, inner, sizes[SPARE],
                )  # fmt: skip
                out += rows * cols
                left += sizes[at + 7]
                right += sizes[at + 11]
            at += 14
        else:
            total(state, sizes[at + 1], sizes[at + 2], sizes[at + 3], sizes[at + 4], sizes[at + 5])
            at += 6


@numba.njit(cache=True, nogil=True, inline="never")
def total(state, outer, count, inner, out, array):
    """Sums over the middle axis, in ascending order."""
    for o in range(outer):
        for i in range(inner):
            at = array + o * count * inner + i
            result = load(state, at * LANES)
            for k in range(1, count):
                result = result + load(state, (at + k * inner) * LANES)
            store(state, (out + o * inner + i) * LANES, result)


@numba.njit(cache=True, nogil=True, inline="never")
def carry_out(state, sizes, line, first, count):
    """One function of `count` elements from the first on."""
    code = sizes[line]
    out = sizes[line + 1] + (first if sizes[line + 2] == MOVING else 0)
    if code == GATHER:
        table = sizes[TABLES_BEGIN] + sizes[line + 3] + first
        for i in range(count):
            store(state, (out + i) * LANES, load(state, sizes[table + i] * LANES))
        return
    how_a, how_b = sizes[line + 4], sizes[line + 6]
    a = sizes[line + 3] + (first if how_a == MOVING else 0)
    b = sizes[line + 5] + (first if how_b == MOVING else 0)
    step_a, step_b = int(how_a != SCALAR), int(how_b != SCALAR)
    count = turns(count)
    if code == ADD:
        for i in range(count):
            put(state, out, i, get(state, a, i, step_a) + get(state, b, i, step_b))
    elif code == SUBTRACT:
        for i in range(count):
            put(state, out, i, get(state, a, i, step_a) - get(state, b, i, step_b))
    elif code == MULTIPLY:
        for i in range(count):
            put(state, out, i, get(state, a, i, step_a) * get(state, b, i, step_b))
    elif code == DIVIDE:
        for i in range(count):
            put(state, out, i, quotient(get(state, a, i, step_a), get(state, b, i, step_b)))
    elif code == ROOT:
        for i in range(count):
            put(state, out, i, root(get(state, a, i, step_a)))
    elif code == EXPONENTIAL:
        for i in range(count):
            put(state, out, i, exponential(state, get(state, a, i, step_a)))
    elif code == LOGARITHM:
        for i in range(count):
            put(state, out, i, logarithm(state, get(state, a, i, step_a)))
    elif code == TANGENT:
        for i in range(count):
            put(state, out, i, tangent(state, get(state, a, i, step_a)))
    elif code == LOGISTIC:
        for i in range(count):
            put(state, out, i, logistic(state, get(state, a, i, step_a)))
    else:
        how_c, how_d = sizes[line + 8], sizes[line + 10]
        c = sizes[line + 7] + (first if how_c == MOVING else 0)
        d = sizes[line + 9] + (first if how_d == MOVING else 0)
        step_c, step_d = int(how_c != SCALAR), int(how_d != SCALAR)
        for i in range(count):
            chosen = choose(
                get(state, a, i, step_a), get(state, b, i, step_b), get(state, c, i, step_c), get(state, d, i, step_d)
            )
            put(state, out, i, chosen)


@numba.njit(cache=True, nogil=True)
def losses(state, scratch, sizes, loss):
    begin(state, sizes)
    run(state, sizes, sizes[LOSS_BEGIN], sizes[LOSS_END])
    store(loss, 0, load(state, sizes[HALF] * LANES))


@numba.njit(cache=True, nogil=True)
def slopes(factors, origin, state, scratch, sizes, out):
    """Gradients of the half sum at `factors`, and behind them the half sum."""
    begin(state, sizes)
    for i in range(sizes[WEIGHTS]):
        store(state, (sizes[OWN] + i) * LANES, load(factors, (origin + i) * LANES))
    run(state, sizes, sizes[ALL_BEGIN], sizes[ALL_END])
    for factor in range(sizes[FACTORS]):
        at = FIRST_FACTOR + OF_FACTOR * factor
        for i in range(sizes[at]):
            store(scratch, (out + sizes[at + 1] + i) * LANES, load(state, (sizes[at + 3] + i) * LANES))
    store(scratch, (out + sizes[WEIGHTS]) * LANES, load(state, sizes[HALF_OF_ALL] * LANES))


@numba.njit(cache=True, nogil=True)
def advance(state, scratch, sizes, steps):
    begin(state, sizes)
    for _ in range(steps):
        run(state, sizes, sizes[SLOPES_BEGIN], sizes[SLOPES_END])
        square = fill(state, 0.0)
        if ADAPTIVE:
            new = True
            for factor in range(sizes[FACTORS] - 1, -1, -1):
                at = FIRST_FACTOR + OF_FACTOR * factor
                for i in range(sizes[at]):
                    slope = load(state, (sizes[at + 2] + i) * LANES)
                    square = slope * slope if new else square + slope * slope
                    new = False
        step = step_size(state, sizes[FIELDS], square)
        for factor in range(sizes[FACTORS]):
            at = FIRST_FACTOR + OF_FACTOR * factor
            weights, slope = sizes[at + 1], sizes[at + 2]
            for i in range(sizes[at]):
                moved = load(state, (weights + i) * LANES) - step * load(state, (slope + i) * LANES)
                store(state, (weights + i) * LANES, moved)


@numba.njit(cache=True, nogil=True)
def evaluate(queue, sizes, factors, out):
    """The array that every row of factors stands for, LANES rows a ticket of the queue."""
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
        run(state, sizes, sizes[ALL_BEGIN], sizes[ALL_END])
        for lane in range(min(LANES, len(factors) - first)):
            for i in range(out.shape[1]):
                out[first + lane, i] = state[(sizes[HALF] + i) * LANES + lane]
