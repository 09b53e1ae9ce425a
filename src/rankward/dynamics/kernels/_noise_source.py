# Text, not a module: the random parts of a step of all lanes, with the numbers of `dynamics/noise.py`.
# A text above brings `load8`, `store8`, `spread8`, `choose`, words and `normals`, LANES and the fields.
# mypy: ignore-errors

GROUPS = max(1, LANES // 8)
STRIDE = max(8, LANES)  # between the two vectors of a block


@numba.njit(inline="always")
def get(state, at, group):
    """A number of eight runs, or eight times the number of one."""
    return spread8(state, at) if LANES == 1 else load8(state, at * LANES + 8 * group)


@numba.njit(nogil=True)
def fill_normal(state, at, apart, group, count, key, other, first, purpose, steps):
    """Standard normal numbers of some steps, two a block; of one run eight blocks at once.

    The words of all blocks come first, in the places of their numbers: so a processor works on many blocks at a time.
    """
    blocks = (count + 1) // 2
    for step in range(steps):
        now, place = raised(first, step), (at + step * apart) * LANES + 8 * group
        if LANES == 1:
            for block in range(0, blocks, 8):
                put(state, place + 2 * block, threefry(key, other, now, rising_words(purpose + block)))
        else:
            for block in range(0, blocks, 2):  # one more than there are has room: the arrays are padded
                second = beside(same_word(purpose + block), same_word(purpose + block + 1))
                left, right = threefry(beside(key, key), beside(other, other), beside(now, now), second)
                left, right = halves(left), halves(right)
                put(state, place + 2 * block * LANES, (left[0], right[0]))
                put(state, place + 2 * (block + 1) * LANES, (left[1], right[1]))
    for step in range(steps):
        place = (at + step * apart) * LANES + 8 * group
        if LANES == 1:
            for here in range(place, place + 2 * blocks, 16):
                numbers = two_normal(state, load_words(state, here), load_words(state, here + STRIDE))
                put_numbers(state, here, interleaved(numbers[0], numbers[1]))
        else:
            for block in range(0, blocks, 2):
                here = place + 2 * block * LANES
                there = here + 2 * LANES
                first = beside(load_words(state, here), load_words(state, there))
                second = beside(load_words(state, here + LANES), load_words(state, there + LANES))
                left, right = two_normal(state, first, second)
                left, right = halves(left), halves(right)
                put_numbers(state, here, (left[0], right[0]))
                put_numbers(state, there, (left[1], right[1]))


@numba.njit(inline="always")
def put_numbers(state, at, numbers):
    store8(state, at, numbers[0])
    store8(state, at + STRIDE, numbers[1])


@numba.njit(inline="always")
def put(state, at, words):
    store_words(state, at, words[0])
    store_words(state, at + STRIDE, words[1])


@numba.njit(inline="always")
def two_normal(state, first, second):
    """The normal numbers of a block: its first word gives their size, its second a quarter turn and two signs."""
    x = (signed(first) + fill_double(first, 2.0**31 + 0.5)) * fill_double(first, 2.0**-32)
    angle = (signed(turned_up(second)) + fill_double(first, 2.0)) * fill_double(first, math.pi * 2.0**-33)
    sine, cosine = normals(x, angle)
    sine, cosine = with_signs(sine, cosine, second)
    return rounded(state, sine), rounded(state, cosine)


@numba.njit(nogil=True)
def one_block(key, other, first, second):
    """Threefry of one lane, as 64 bits."""
    third = key ^ other ^ PARITY
    x, y = (first + key) & WORD, (second + other) & WORD
    for group in range(ROUND_GROUPS):
        for turn in range(4):
            by = ROTATIONS[4 * (group % 2) + turn]
            x = (x + y) & WORD
            y = (((y << by) & WORD) | (y >> (32 - by))) ^ x
        key, other, third = other, third, key
        x = (x + key) & WORD
        y = (y + other + group + 1) & WORD
    return x, y


@numba.njit(inline="always")
def whole(state, at, lane):
    """A whole number from two fields of 16 bits."""
    return np.int64(state[at * LANES + lane]) | np.int64(state[(at + 1) * LANES + lane]) << 16


@numba.njit(nogil=True)
def put_in_order(state, lane, fields, entries):
    """Ranks of the observed entries of one run in its epoch's random order; others keep -1."""
    key, other = whole(state, fields + KEY, lane), whole(state, fields + OTHER_KEY, lane)
    epoch = whole(state, fields + EPOCH, lane)
    order = np.empty(entries, np.int64)
    count = 0
    for i in range(entries):
        if state[(fields + RANKS + i) * LANES + lane] >= 0:
            first, second = one_block(key, other, epoch, BATCH_PURPOSE + i)
            order[count] = ((first << 7) | (second >> 25)) << 24 | i
            count += 1
    order = order[:count]
    order.sort()
    for rank in range(count):
        state[(fields + RANKS + (order[rank] & 0xFFFFFF)) * LANES + lane] = rank


@numba.njit(nogil=True)
def count_up(state, at, lane, by):
    """Raise a whole number in two fields of 16 bits."""
    low = state[at * LANES + lane] + by
    if low >= 65536:
        low -= 65536
        state[(at + 1) * LANES + lane] += 1
    state[at * LANES + lane] = low


@numba.njit(nogil=True)
def choose_batch(state, lane, fields, entries):
    """The ranks and the weight of one run's next minibatch; at an epoch's begin, and at a chunk's, the order first."""
    position_at, stale_at = (fields + POSITION) * LANES + lane, (fields + STALE) * LANES + lane
    position = state[position_at]
    if position == 0 or state[stale_at] != 0:
        put_in_order(state, lane, fields, entries)
        state[stale_at] = 0
    batch, observed = state[(fields + SIZE) * LANES + lane], state[(fields + OBSERVED) * LANES + lane]
    begin = np.int64(position) * np.int64(batch)
    end = min(begin + np.int64(batch), np.int64(observed))
    state[(fields + BEGIN) * LANES + lane] = begin
    state[(fields + LAST) * LANES + lane] = end - 1
    if end > begin:
        state[(fields + WEIGHT) * LANES + lane] = np.float64(observed) / np.float64(end - begin)
    position += 1
    if position == state[(fields + STEPS) * LANES + lane]:
        position = 0
        count_up(state, fields + EPOCH, lane, 1)
    state[position_at] = position


@numba.njit(nogil=True)
def fill_share(state, at, fields, entries):
    """The weight of every entry of the minibatch, and zero for the others."""
    for group in range(GROUPS):
        begin, last = get(state, fields + BEGIN, group), get(state, fields + LAST, group)
        weight = get(state, fields + WEIGHT, group)
        zero = fill8(state, 0.0)
        if LANES == 1:
            for i in range(0, entries, 8):
                rank = load8(state, fields + RANKS + i)
                store8(state, at + i, choose(begin, rank, choose(rank, last, weight, zero), zero))
        else:
            for i in range(entries):
                rank = load8(state, (fields + RANKS + i) * LANES + 8 * group)
                share = choose(begin, rank, choose(rank, last, weight, zero), zero)
                store8(state, (at + i) * LANES + 8 * group, share)


def disturb(memory, length, at, fields, entries, parameters, kinds, steps):
    """Fill the arrays of the next steps, from `at`, of the kinds whose bits are set: labels 1, gradients 2, batch 4."""
    state = numba.carray(memory, length)
    gradients_at = at + (padded(entries) if kinds & 1 else 0)
    share_at = gradients_at + (padded(parameters) if kinds & 2 else 0)
    apart = share_at - at + (padded(entries) if kinds & 4 else 0)
    if kinds & 3:
        for group in range(GROUPS):
            key = word(get(state, fields + KEY, group), get(state, fields + KEY + 1, group))
            other = word(get(state, fields + OTHER_KEY, group), get(state, fields + OTHER_KEY + 1, group))
            step = word(get(state, fields + STEP, group), get(state, fields + STEP + 1, group))
            if kinds & 1:
                fill_normal(state, at, apart, group, entries, key, other, step, LABELS_PURPOSE, steps)
            if kinds & 2:
                fill_normal(state, gradients_at, apart, group, parameters, key, other, step, GRADIENTS_PURPOSE, steps)
    if kinds & 4:
        for step in range(steps):
            for lane in range(LANES):
                choose_batch(state, lane, fields, entries)
            fill_share(state, share_at + step * apart, fields, entries)
    for lane in range(LANES):
        count_up(state, fields + STEP, lane, steps)


@numba.njit(inline="always")
def padded(size):
    return -(-size // PAD) * PAD
