# Text, not a module: what `_driver_source.py` does with lanes and a queue, for one thread of a GPU and one run.
# mypy: ignore-errors

RUNNING, CONVERGED, MAX_ITERATIONS, DIVERGED = 0, 1, 2, 3
ITERATION, STATUS, BELOW, NEXT_RECORD, LIMIT, ROWS = 0, 1, 2, 3, 4, 5  # rows of `counts`
LOWEST_LOSS, STOP_LOSS, LOSS_SCALE = 0, 1, 2  # rows of `losses_of`


@jit
def drive(
    state, loss, counts, losses_of, rows_iteration, rows_loss, rows_factors,
    length, stride, every, iteration_ratio, loss_ratio, stop_checks,
):  # fmt: skip
    """Advance the thread's run by `length` iterations, or to its stop, or until its rows are full.

    Few arrays on purpose: where each begins and how long its rows are takes registers.
    """
    run = cuda.grid(1)
    if run >= counts.shape[1]:
        return
    now = counts[ITERATION, run]
    until = now + length
    status = RUNNING
    row = 0
    # A run that has not left its first row is looked at before its first step.
    steps = 0 if counts[NEXT_RECORD, run] == 0 else min(stride, counts[LIMIT, run] - now)
    while True:
        if steps > 0:
            advance(state, state, 0, steps)
        losses(state, state, 0, loss)
        now += steps
        here = np.float64(loss[0, run]) * losses_of[LOSS_SCALE, run]
        low = here < losses_of[STOP_LOSS, run]
        below = counts[BELOW, run] + 1 if low else 0
        counts[BELOW, run] = below
        if not here < np.inf:
            status = DIVERGED
        elif low and below >= stop_checks:
            status = CONVERGED
        elif now >= counts[LIMIT, run]:
            status = MAX_ITERATIONS
        due = now >= counts[NEXT_RECORD, run]
        if due or status != RUNNING or (every == 0 and here <= loss_ratio * losses_of[LOWEST_LOSS, run]):
            rows_iteration[row, run] = now
            rows_loss[row, run] = here
            for i in range(rows_factors.shape[1]):
                rows_factors[row, i, run] = state[i, run]
            row += 1
            losses_of[LOWEST_LOSS, run] = min(losses_of[LOWEST_LOSS, run], here)
        if due:
            if every > 0:
                counts[NEXT_RECORD, run] = now + every
            else:
                grown = np.int64(math.ceil(now * iteration_ratio / stride)) * stride
                counts[NEXT_RECORD, run] = max(now + stride, grown)
        if status != RUNNING or now >= until or row == rows_iteration.shape[0]:
            break
        steps = min(stride, counts[LIMIT, run] - now)
    counts[ITERATION, run] = now
    counts[STATUS, run] = status
    counts[ROWS, run] = row
