# Text, not a module: a step of an optimizer, which a graph's instructions make as a whole.
# mypy: ignore-errors


@numba.njit(cache=True, nogil=True)
def advance(state, scratch, sizes, steps):
    begin(state, sizes)
    for _ in range(steps):
        if NOISY:
            disturb(
                state.ctypes,
                state.size,
                sizes[NOISE_BEGIN],
                sizes[FIELDS],
                sizes[NOISE_ENTRIES],
                sizes[NOISE_PARAMETERS],
                sizes[NOISE_KINDS],
                1,
            )
        run(state, sizes, SLOPES_BEGIN, SLOPES_END)
        for changed in range(sizes[FACTORS]):
            at = FIRST_FACTOR + OF_FACTOR * changed
            old, new = sizes[at + 1], sizes[at + 2]
            for i in range(sizes[at]):
                store(state, (old + i) * LANES, load(state, (new + i) * LANES))
