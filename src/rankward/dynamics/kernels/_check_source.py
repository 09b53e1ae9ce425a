# Text, not a module: the rule for stops and rows, compiled for processors and GPUs. `rankward.dynamics.rule` binds it
# to torch for the other engines, so it has no branches. A text above has the statuses and imports `math`.
# mypy: ignore-errors


@numba.njit(cache=True, nogil=True)
def where(condition, value, otherwise):
    return value if condition else otherwise


@numba.njit(cache=True, nogil=True)
def real(integer):
    return float(integer)


@numba.njit(cache=True, nogil=True)
def ceiling(number):
    return int(math.ceil(number))


@numba.njit(cache=True, nogil=True)
def after(iteration, stride, every, iteration_ratio):
    """The iteration at which the next row is due, after a row that was due at `iteration`."""
    grown = ceiling(real(iteration) * iteration_ratio / stride) * stride
    return where(every > 0, iteration + every, where(grown > iteration + stride, grown, iteration + stride))


@numba.njit(cache=True, nogil=True)
def check(
    iteration, loss, forced, limit, stop_loss, window, tolerance, below, next_record, lowest_loss, marked, marked_loss,
    stop_checks, every, loss_ratio,
):  # fmt: skip
    """The status after a check of the loss, whether a row is due and recorded, and what a check changes of `Progress`.

    `forced` is the status of a run that must stop for another reason, else RUNNING. The loss is marked every `window`
    iterations (0: never), and a run stops if it has changed by at most `tolerance` times the loss that was marked last.
    """
    low = loss < stop_loss
    below = where(low, below + 1, 0)
    marking = (window > 0) & ((marked < 0) | (iteration - marked >= window))
    flat = marking & (marked >= 0) & (abs(loss - marked_loss) <= tolerance * marked_loss)
    status = where(iteration >= limit, MAX_ITERATIONS, forced)
    status = where(flat, PLATEAU, status)
    status = where(low & (below >= stop_checks), CONVERGED, status)
    status = where(loss < math.inf, status, DIVERGED)
    due = iteration >= next_record
    recorded = due | (status != RUNNING) | ((every == 0) & (loss <= loss_ratio * lowest_loss))
    lowest_loss = where(recorded & (loss < lowest_loss), loss, lowest_loss)
    marked_loss = where(marking, loss, marked_loss)
    marked = where(marking, iteration, marked)
    return status, due, recorded, below, lowest_loss, marked, marked_loss
