# Text, not a module: what `_driver_source.py` does with lanes and a queue, for one thread of a GPU and one run.
# mypy: ignore-errors

ITERATION, STATUS, BELOW, NEXT_RECORD, MARKED, LIMIT, WINDOW, ROWS = 0, 1, 2, 3, 4, 5, 6, 7  # rows of `counts`
LOWEST_LOSS, MARKED_LOSS, STOP_LOSS, LOSS_SCALE, TOLERANCE = 0, 1, 2, 3, 4  # rows of `losses_of`


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
    row = 0
    # A run that has not left its first row is looked at before its first step.
    steps = 0 if counts[NEXT_RECORD, run] == 0 else min(stride, counts[LIMIT, run] - now)
    while True:
        if steps > 0:
            advance(state, state, 0, steps)
        losses(state, state, 0, loss)
        now += steps
        here = np.float64(loss[0, run]) * losses_of[LOSS_SCALE, run]
        status, due, recorded, below, lowest_loss, marked, marked_loss = check(
            now, here, RUNNING, counts[LIMIT, run], losses_of[STOP_LOSS, run], counts[WINDOW, run],
            losses_of[TOLERANCE, run], counts[BELOW, run], counts[NEXT_RECORD, run], losses_of[LOWEST_LOSS, run],
            counts[MARKED, run], losses_of[MARKED_LOSS, run], stop_checks, every, loss_ratio,
        )  # fmt: skip
        if due:
            counts[NEXT_RECORD, run] = after(now, stride, every, iteration_ratio)
        counts[BELOW, run], counts[MARKED, run] = below, marked
        losses_of[LOWEST_LOSS, run], losses_of[MARKED_LOSS, run] = lowest_loss, marked_loss
        if recorded:
            rows_iteration[row, run] = now
            rows_loss[row, run] = here
            for i in range(rows_factors.shape[1]):
                rows_factors[row, i, run] = state[i, run]
            row += 1
        if status != RUNNING or now >= until or row == rows_iteration.shape[0]:
            break
        steps = min(stride, counts[LIMIT, run] - now)
    counts[ITERATION, run] = now
    counts[STATUS, run] = status
    counts[ROWS, run] = row
