# Text, not a module: a loop over the instructions of `blocked.py`, below `functions.py` and one `multiply` text.
# A text above brings `get`, `put` and `turns`: a number is a vector of runs, or of neighbouring elements of one run.
# mypy: ignore-errors


@numba.njit(inline="always")
def total(state, outer, count, inner, out, array):
    """Sums over the middle axis, in ascending order."""
    for o in range(outer):
        for i in range(inner):
            at = array + o * count * inner + i
            result = load(state, at * LANES)
            for k in range(1, count):
                result = result + load(state, (at + k * inner) * LANES)
            store(state, (out + o * inner + i) * LANES, result)


@numba.njit(inline="always")
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


def instructions(memory, length, encoded, count, at, end):
    """Carry out those from `at` to `end`."""
    state, sizes = numba.carray(memory, length), numba.carray(encoded, count)
    while at < end:
        kind = sizes[at]
        if kind == ELEMENTS:
            count, span, lines = sizes[at + 1], sizes[at + 2], sizes[at + 3]
            for first in range(0, count, span):
                for line in range(lines):
                    carry_out(state, sizes, at + 4 + 11 * line, first, min(span, count - first))
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
