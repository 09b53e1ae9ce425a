# Text, not a module: pasted below `_check_source.py` and `_descent_source.py` or `_flow_source.py` in a kernel.
# mypy: ignore-errors


@numba.njit(cache=True, nogil=True)
def drive(
    queue, order, sizes, factors, mask, values, rates, loss_scale, stop_loss, stop_checks, max_iterations, window,
    tolerance, iteration, status, below, next_record, lowest_loss, marked, marked_loss, length, stride, every,
    iteration_ratio, loss_ratio,
    rows_iteration, rows_loss, rows_time, rows_factors, rows_count,
):  # fmt: skip
    """Advance every run that `queue` hands out by `length` iterations, or to its stop, or until its rows are full.

    A lane whose run leaves takes the next run of the queue: which run sits beside which changes no bit of either.
    """
    parameters = factors.shape[1]
    operators = mask.shape[1]
    entries = values.shape[1]
    capacity = rows_iteration.shape[1]
    mask_at = parameters * LANES
    values_at = mask_at + operators * LANES
    rates_at = values_at + entries * LANES
    # The scratch follows the state, at a full vector: a kernel may see both as one.
    scratch_at = -(-(rates_at // LANES + rates.shape[1]) // 16) * 16 * LANES
    state = aligned(scratch_at + memory(sizes) * LANES, factors.dtype)
    scratch = state[scratch_at:]
    loss = np.zeros(LANES, factors.dtype)

    ticket = np.full(LANES, -1)
    now = np.zeros(LANES, np.int64)
    until = np.zeros(LANES, np.int64)
    steps = np.zeros(LANES, np.int64)
    vacant = np.ones(LANES, np.bool_)
    active = 0
    waiting = True

    while True:
        if waiting:
            taken = active
            for lane in range(LANES):
                if vacant[lane]:
                    ticket[lane] = draw(queue)
                    if ticket[lane] >= order.size:
                        waiting = False
                        break
                    run = order[ticket[lane]]
                    vacant[lane] = False
                    active += 1
                    for i in range(parameters):
                        state[i * LANES + lane] = factors[run, i]
                    for i in range(operators):
                        state[mask_at + i * LANES + lane] = mask[run, i]
                    for i in range(entries):
                        state[values_at + i * LANES + lane] = values[run, i]
                    for i in range(rates.shape[1]):
                        state[rates_at + i * LANES + lane] = rates[run, i]
                    now[lane] = iteration[run]
                    until[lane] = now[lane] + length
                    # A run that has not left its first row is looked at before its first step.
                    steps[lane] = 0 if next_record[run] == 0 else min(stride, max_iterations[run] - now[lane])
            if active > taken:
                arrived(state, scratch, sizes)
        if active == 0:
            return

        hop = length
        for lane in range(LANES):
            if not vacant[lane]:
                hop = min(hop, steps[lane])
        if hop > 0:
            hop = move(state, scratch, sizes, hop)
        look(state, scratch, sizes, loss)

        for lane in range(LANES):
            if vacant[lane]:
                continue
            gone = moved(scratch, sizes, lane, hop)
            now[lane] += gone
            steps[lane] -= gone
            run = np.uint64(order[ticket[lane]])  # no index from the end: numba would compare it with 0 each time
            here = np.float64(loss[lane]) * loss_scale[run]
            forced = ended(state, sizes, lane)
            if steps[lane] > 0 and forced == RUNNING and not (FLOW and here < stop_loss[run]):
                continue
            found, due, recorded, below[run], lowest_loss[run], marked[run], marked_loss[run] = check(
                now[lane], here, forced, max_iterations[run], stop_loss[run], window[run], tolerance[run], below[run],
                next_record[run], lowest_loss[run], marked[run], marked_loss[run], stop_checks, every, loss_ratio,
            )  # fmt: skip
            if due:
                next_record[run] = after(now[lane], stride, every, iteration_ratio)
            if recorded:
                row = rows_count[ticket[lane]]
                rows_iteration[ticket[lane], row] = now[lane]
                rows_loss[ticket[lane], row] = here
                rows_time[ticket[lane], row] = time_of(state, sizes, lane)
                for i in range(parameters):
                    rows_factors[ticket[lane], row, i] = state[i * LANES + lane]
                rows_count[ticket[lane]] = row + 1
            if found != RUNNING or now[lane] >= until[lane] or rows_count[ticket[lane]] == capacity:
                status[run] = found
                for i in range(parameters):
                    factors[run, i] = state[i * LANES + lane]
                for i in range(rates.shape[1]):  # what an adaptive rate remembers is among them
                    rates[run, i] = state[rates_at + i * LANES + lane]
                iteration[run] = now[lane]
                vacant[lane] = True
                active -= 1
            else:
                steps[lane] = min(stride, max_iterations[run] - now[lane])
