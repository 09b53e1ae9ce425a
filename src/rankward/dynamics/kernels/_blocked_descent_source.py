# Text, not a module: a step of descent from the gradients of a graph's instructions.
# mypy: ignore-errors


@numba.njit(cache=True, nogil=True)
def advance(state, scratch, sizes, steps):
    begin(state, sizes)
    for _ in range(steps):
        run(state, sizes, SLOPES_BEGIN, SLOPES_END)
        square = fill(state, 0.0)
        if USES_SQUARE:
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
