# Text, not a module: what the driver asks of descent, where every lane makes every step.
# mypy: ignore-errors


@numba.njit(inline="always")
def memory(sizes):
    return scratch_size(sizes)


@numba.njit(inline="always")
def arrived(state, scratch, sizes):
    """A lane has taken a run: descent has nothing to prepare."""


@numba.njit(inline="always")
def move(state, scratch, sizes, steps):
    advance(state, scratch, sizes, steps)
    return steps


@numba.njit(inline="always")
def look(state, scratch, sizes, loss):
    losses(state, scratch, sizes, loss)


@numba.njit(inline="always")
def moved(scratch, sizes, lane, steps):
    """Iterations that the lane has made."""
    return steps


@numba.njit(inline="always")
def time_of(state, sizes, lane):
    return 0.0


@numba.njit(inline="always")
def ended(state, sizes, lane):
    """The status of a run that must stop whatever its loss, else RUNNING."""
    return RUNNING
