# Text, not a module: how a flow ends in time, and what its state keeps of a run. Below a family's text with `rates_of`.
# mypy: ignore-errors

# Numbers of a run in the state, behind mask and values; the last four change.
SCALE, RTOL, ATOL, STOP, END_TIME, COUNT, DECAY, TIME, STEP, ERROR, CLOSING = range(11)
LARGEST_STEP = 1e15  # at a stationary point every step is accepted, and five times as long as the last
SMALLEST_STEP = 1e-100  # below, the slopes are not finite


@numba.njit(cache=True, nogil=True)
def time_of(state, sizes, lane):
    return state[(rates_of(sizes) + TIME) * LANES + lane]


@numba.njit(cache=True, nogil=True)
def ended(state, sizes, lane):
    """The status of a run that must stop whatever its loss, else RUNNING."""
    rates = rates_of(sizes)
    step = state[(rates + STEP) * LANES + lane]
    if state[(rates + TIME) * LANES + lane] >= state[(rates + END_TIME) * LANES + lane] * (1 - 1e-15):
        return MAX_TIME
    return RUNNING if step > SMALLEST_STEP else DIVERGED
