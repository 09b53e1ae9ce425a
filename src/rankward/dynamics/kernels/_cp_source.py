# Text, not a module: gradient descent on CP factors (Equation 12) of one run, vectors along the components.
# Below the text of `tiles.py`, which brings VECTORS (of a chunk) and the inner loops.
# mypy: ignore-errors

# Components come in chunks, so that what one needs stays in the first cache. A block holds, for a chunk, the nodes of a
# binary tree over the modes: the leaves are the factors, the others Khatri-Rao products of their children, and of the
# root's two children, the halves K and L, the tensor is K L'. Leaves and halves are padded with zeros to fours of rows.
# `sizes`: see `rankward.dynamics.cp.Plan`.
CHUNK = VECTORS * WIDE
HEAD = 9


@numba.njit(cache=True, nogil=True)
def scratch_size(sizes):
    """Blocks and gradients of the leaves of every chunk, the gradients of one block, and the entries."""
    entries = sizes[3] * sizes[4] * 16
    return (sizes[0] * (sizes[1] + sizes[2]) + sizes[2]) * CHUNK + entries + WIDE


@numba.njit(cache=True, nogil=True)
def products(scratch, block, sizes):
    """Khatri-Rao products of a block."""
    for node in range(sizes[7], (sizes.size - HEAD) // 4):
        at = HEAD + 4 * node
        a, b = HEAD + 4 * sizes[at + 2], HEAD + 4 * sizes[at + 3]
        out = block + sizes[at + 1] * CHUNK
        for i in range(sizes[a]):
            left = block + (sizes[a + 1] + i) * CHUNK
            for j in range(sizes[b]):
                right = block + (sizes[b + 1] + j) * CHUNK
                for v in range(0, CHUNK, WIDE):
                    store_wide(scratch, out + v, load_wide(scratch, left + v) * load_wide(scratch, right + v))
                out += CHUNK


@numba.njit(cache=True, nogil=True)
def halves(sizes):
    """The offsets of K and L in a block."""
    return sizes[HEAD + 4 * sizes[5] + 1] * CHUNK, sizes[HEAD + 4 * sizes[6] + 1] * CHUNK


@numba.njit(cache=True, nogil=True)
def leaf_slopes(scratch, block, leaves, inner, sizes):
    """From the gradients of the halves (under `leaves` or `inner`, as the halves are) to those of all leaves."""
    for node in range((sizes.size - HEAD) // 4 - 1, sizes[7] - 1, -1):
        at = HEAD + 4 * node
        a, b = HEAD + 4 * sizes[at + 2], HEAD + 4 * sizes[at + 3]
        to_a = (leaves if sizes[at + 2] < sizes[7] else inner) + sizes[a + 1] * CHUNK
        to_b = (leaves if sizes[at + 3] < sizes[7] else inner) + sizes[b + 1] * CHUNK
        left, right = block + sizes[a + 1] * CHUNK, block + sizes[b + 1] * CHUNK
        back_product(scratch, inner + sizes[at + 1] * CHUNK, left, right, to_a, to_b, sizes[a], sizes[b])


@numba.njit(cache=True, nogil=True)
def observed(state, mask, sizes):
    """Rows and columns of the observed entries in row order, filled up with zeros to a full vector; and how many."""
    places = np.zeros((16 * sizes[3] * sizes[4] + WIDE, 2), np.int64)
    count = 0
    for row in range(4 * sizes[3]):
        for col in range(4 * sizes[4]):
            if state[mask + place_of(row, col, sizes)] != 0:
                places[count] = row, col
                count += 1
    return places[: -(-count // WIDE) * WIDE], count


@numba.njit(cache=True, nogil=True)
def place_of(row, col, sizes):
    """The offset of an entry of K L' in the order of tiles."""
    return ((row // 4) * sizes[4] + col // 4) * 16 + (row % 4) * 4 + col % 4


@numba.njit(cache=True, nogil=True)
def residual(state, scratch, sizes, entries, places, count):
    """The observed entries' residual, at `entries`: in tiles, or where few are observed in the order of `places`."""
    tiles = sizes[3] * sizes[4] * 16
    mask = sizes[0] * sizes[1] * CHUNK
    values = mask + tiles
    few = count < sizes[8]
    row_at, col_at = halves(sizes)
    for chunk in range(sizes[0]):
        block = chunk * sizes[2] * CHUNK
        products(scratch, block, sizes)
        if few:
            few_dots(scratch, block + row_at, block + col_at, entries, places, chunk == 0)
        else:
            dots(scratch, block + row_at, block + col_at, entries, sizes[3], sizes[4], chunk == 0)
    if few:
        for i in range(count):
            scratch[entries + i] -= state[values + place_of(places[i, 0], places[i, 1], sizes)]
        scratch[entries + count : entries + len(places)] = 0
    else:
        for i in range(0, tiles, WIDE):
            error = load_wide(scratch, entries + i) - load_wide(state, values + i)
            store_wide(scratch, entries + i, load_wide(state, mask + i) * error)


@numba.njit(cache=True, nogil=True)
def weights_of(sizes):
    return sizes[0] * sizes[1] * CHUNK


@numba.njit(cache=True, nogil=True)
def rates_of(sizes):
    """The offset of the rates in the state, after factors, mask and values."""
    return weights_of(sizes) + 32 * sizes[3] * sizes[4]


@numba.njit(cache=True, nogil=True)
def unpack(factors, scratch, sizes):
    """The factors into their blocks; where gradients and entries begin."""
    leaf = sizes[1] * CHUNK
    block = sizes[2] * CHUNK
    for chunk in range(sizes[0]):
        scratch[chunk * block : chunk * block + leaf] = factors[chunk * leaf : (chunk + 1) * leaf]
    leaves = sizes[0] * block
    inner = leaves + sizes[0] * leaf
    return leaves, inner, inner + block


@numba.njit(cache=True, nogil=True)
def total_square(scratch, at, count):
    """The sum of squares, lane by lane and then over lanes."""
    square = load_wide(scratch, at) * load_wide(scratch, at)
    for i in range(WIDE, count, WIDE):
        slope = load_wide(scratch, at + i)
        square = square + slope * slope
    lanes = np.empty(WIDE, scratch.dtype)
    store_wide(lanes, 0, square)
    total = lanes[0]
    for lane in range(1, WIDE):
        total = total + lanes[lane]
    return total


@numba.njit(cache=True, nogil=True)
def half_sum(scratch, sizes, entries, places, count):
    used = len(places) if count < sizes[8] else 16 * sizes[3] * sizes[4]
    return total_square(scratch, entries, used) * 0.5


@numba.njit(cache=True, nogil=True)
def losses(state, scratch, sizes, loss):
    _, _, entries = unpack(state, scratch, sizes)
    places, count = observed(state, weights_of(sizes), sizes)
    residual(state, scratch, sizes, entries, places, count)
    loss[0] = half_sum(scratch, sizes, entries, places, count)


@numba.njit(cache=True, nogil=True, inline="always")
def back_propagate(scratch, sizes, leaves, inner, entries, places, count):
    """Gradients of the half sum from the residual, chunk after chunk."""
    row_at, col_at = halves(sizes)
    for chunk in range(sizes[0]):
        here, slopes = chunk * sizes[2] * CHUNK, leaves + chunk * sizes[1] * CHUNK
        to_left = (slopes if sizes[5] < sizes[7] else inner) + row_at
        to_right = (slopes if sizes[6] < sizes[7] else inner) + col_at
        left, right = here + row_at, here + col_at
        if count < sizes[8]:
            few_back(scratch, entries, left, right, to_left, to_right, places, count, sizes[3], sizes[4])
        else:
            back_rows(scratch, entries, right, to_left, sizes[3], sizes[4])
            back_cols(scratch, entries, left, to_right, sizes[3], sizes[4])
        leaf_slopes(scratch, here, slopes, inner, sizes)


@numba.njit(cache=True, nogil=True)
def slopes(factors, origin, state, scratch, sizes, out):
    """Gradients of the half sum at `factors`, and behind them the half sum."""
    weights = weights_of(sizes)
    leaves, inner, entries = unpack(factors[origin : origin + weights], scratch, sizes)
    places, count = observed(state, weights, sizes)
    residual(state, scratch, sizes, entries, places, count)
    back_propagate(scratch, sizes, leaves, inner, entries, places, count)
    scratch[out : out + weights] = scratch[leaves : leaves + weights]
    scratch[out + weights] = half_sum(scratch, sizes, entries, places, count)


@numba.njit(cache=True, nogil=True)
def advance(state, scratch, sizes, steps):
    leaf, block = sizes[1] * CHUNK, sizes[2] * CHUNK
    leaves, inner, entries = unpack(state, scratch, sizes)
    places, count = observed(state, weights_of(sizes), sizes)
    rates = rates_of(sizes)
    one = np.empty(WIDE, scratch.dtype)
    for _ in range(steps):
        residual(state, scratch, sizes, entries, places, count)
        back_propagate(scratch, sizes, leaves, inner, entries, places, count)
        square = scratch[leaves]
        if USES_SQUARE:
            square = total_square(scratch, leaves, sizes[0] * leaf)
        one[:] = step_size(state, rates, square)
        step = load_wide(one, 0)
        for chunk in range(sizes[0]):
            here, slopes = chunk * block, leaves + chunk * leaf
            for i in range(0, leaf, WIDE):
                moved = load_wide(scratch, here + i) - step * load_wide(scratch, slopes + i)
                store_wide(scratch, here + i, moved)
    for chunk in range(sizes[0]):
        state[chunk * leaf : (chunk + 1) * leaf] = scratch[chunk * block : chunk * block + leaf]


@numba.njit(cache=True, nogil=True)
def tensors(queue, sizes, factors, out):
    """The whole tensor, in tiles, of every row of factors that `queue` hands out."""
    scratch = aligned(scratch_size(sizes), factors.dtype)
    row_at, col_at = halves(sizes)
    while True:
        row = draw(queue)
        if row >= len(factors):
            return
        _, _, entries = unpack(factors[row], scratch, sizes)
        for chunk in range(sizes[0]):
            block = chunk * sizes[2] * CHUNK
            products(scratch, block, sizes)
            dots(scratch, block + row_at, block + col_at, entries, sizes[3], sizes[4], chunk == 0)
        out[row] = scratch[entries : entries + out.shape[1]]
