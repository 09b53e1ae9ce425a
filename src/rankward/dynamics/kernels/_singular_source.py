# Text, not a module: balanced flow of one run in singular coordinates (see `factorizations/singular.py`), by the
# Rosenbrock method of `rosenbrock.py`. It is below the texts of `functions.py` and `_flow_time_source.py`.
# mypy: ignore-errors

# A parameter vector y is U [d, r], ln sigma [r] and V [d', r]. `sizes`: d, d', r, measurements (0: a mask), and the
# bits of the depth. Numbers are complex: the imaginary part carries a derivative, TINY times as large. It is so small
# that its squares vanish in the real part: derivatives are exact up to rounding.
TINY = 1e-100
STAGES = 8


@numba.njit(cache=True, nogil=True)
def weights_of(sizes):
    return (sizes[0] + sizes[1] + 1) * sizes[2]


@numba.njit(cache=True, nogil=True)
def rates_of(sizes):
    entries = sizes[0] * sizes[1]
    return weights_of(sizes) + (sizes[3] * (entries + 1) if sizes[3] > 0 else 2 * entries)


@numba.njit(cache=True, nogil=True)
def memory(sizes):
    """Slopes, the half sum, who has accepted the step, the stages, and a trial point."""
    return (STAGES + 2) * weights_of(sizes) + 2


@numba.njit(cache=True, nogil=True)
def power(state, x):
    """The exponential of a number with a derivative."""
    value = exponential(state, x.real)
    return complex(value, value * x.imag)


@numba.njit(cache=True, nogil=True)
def over_rise(state, x, least):
    """1 / (1 - e^x) for x < 0, without cancellation: with t = tanh(x / 2), 1 - e^x is -2 t / (1 - t).

    It is r / (r^2 + least^2) of r = 1 - e^x: zero at x = 0.
    """
    half = tangent(state, 0.5 * x.real)
    rise = complex(quotient(-2.0 * half, 1.0 - half), -exponential(state, x.real) * x.imag)
    below = rise * rise + least * least
    return rise * complex(quotient(1.0, below.real), -quotient(below.imag, below.real * below.real))


@numba.njit(cache=True, nogil=True)
def directions(y, out, state, sizes):
    """The direction of the flow at y, and the half sum, both with their derivatives.

    With g = U^T G V and L the depth: d ln sigma_r / dt = -L sigma_r^(1-2/L) g_rr. With sigma_a < sigma_b, the rotations
    are -(sigma_b g_ab + sigma_a g_ba) / (sigma_b^(2/L) - sigma_a^(2/L)) of U, and the same with g transposed of V. A
    tall U also moves out of its span, by -sigma_r^(1-2/L) times the part of G v_r there; V likewise. Vectors of
    singular values that differ by less than the relative tolerance turn more slowly, and stop where these are equal:
    there a rotation changes the product by less than the tolerance.
    """
    rows, cols, rank, measurements = sizes[0], sizes[1], sizes[2], sizes[3]
    depth = sizes.view(np.float64)[4]
    weights, entries = weights_of(sizes), rows * cols
    left = y[: rows * rank].reshape(rows, rank)
    logs = y[rows * rank : (rows + 1) * rank]
    right = y[(rows + 1) * rank :].reshape(cols, rank)
    scale = state[rates_of(sizes) + SCALE]

    gradient = np.zeros((rows, cols), np.complex128)
    half = complex(0.0, 0.0)
    scaled = np.empty((rows, rank), np.complex128)
    for k in range(rank):
        value = power(state, logs[k])
        for i in range(rows):
            scaled[i, k] = left[i, k] * value
    product = multiplied(scaled, right, False, True)
    if measurements == 0:
        for i in range(rows):
            for j in range(cols):
                at = i * cols + j
                residual = state[weights + at] * (product[i, j] - state[weights + entries + at])
                half += 0.5 * residual * residual
                gradient[i, j] = scale * residual
    else:
        for m in range(measurements):
            residual = complex(-state[weights + measurements * entries + m], 0.0)
            for i in range(rows):
                for j in range(cols):
                    residual += state[weights + m * entries + i * cols + j] * product[i, j]
            half += 0.5 * residual * residual
            for i in range(rows):
                for j in range(cols):
                    gradient[i, j] += scale * residual * state[weights + m * entries + i * cols + j]

    of_right = multiplied(gradient, right, False, False)
    of_left = multiplied(gradient, left, True, False)
    g = multiplied(left, of_right, True, False)
    turn_left = np.zeros((rank, rank), np.complex128)
    turn_right = np.zeros((rank, rank), np.complex128)
    strength = np.empty(rank, np.complex128)
    decay = scale * state[rates_of(sizes) + DECAY]
    for k in range(rank):
        strength[k] = power(state, (1.0 - 2.0 / depth) * logs[k])
        out[rows * rank + k] = -depth * (strength[k] * g[k, k] + decay)
    for r in range(rank):
        for s in range(r):
            a, b = (r, s) if logs[r].real < logs[s].real else (s, r)
            gap = logs[a] - logs[b]
            ratio = power(state, gap)
            share = strength[b] * over_rise(state, (2.0 / depth) * gap, state[rates_of(sizes) + RTOL])
            turn_left[a, b] = -share * (g[a, b] + ratio * g[b, a])
            turn_left[b, a] = -turn_left[a, b]
            turn_right[a, b] = -share * (g[b, a] + ratio * g[a, b])
            turn_right[b, a] = -turn_right[a, b]
    largest = logs[0].real
    for k in range(rank):
        largest = max(largest, logs[k].real)
    back = 0.5 * depth * scale * exponential(state, (2.0 - 2.0 / depth) * largest)
    turned(left, turn_left, of_right, g, strength, back, out[: rows * rank].reshape(rows, rank))
    turned(right, turn_right, of_left, g.T, strength, back, out[(rows + 1) * rank :].reshape(cols, rank))
    return half


@numba.njit(cache=True, nogil=True)
def turned(vectors, turn, pull, g, strength, back, out):
    """The motion of singular vectors: a rotation in their span, and for tall matrices the way out of it.

    Vectors that are not orthonormal are drawn back at the rate of the fastest motions. No vectors of a flow are, but
    without that the Jacobian would be singular, and rounding in it would limit the steps.
    """
    size, rank = vectors.shape
    turn = turn - back * multiplied(vectors, vectors, True, False)
    for k in range(rank):
        turn[k, k] += back
    for i in range(size):
        for k in range(rank):
            total, inside = complex(0.0, 0.0), complex(0.0, 0.0)
            for m in range(rank):
                total += vectors[i, m] * turn[m, k]
                inside += vectors[i, m] * g[m, k]
            if size > rank:
                total -= strength[k] * (pull[i, k] - inside)
            out[i, k] = total


@numba.njit(cache=True, nogil=True)
def multiplied(a, b, of_columns, by_rows):
    """The product of a, or its transpose, and b, or its transpose, in a fixed order."""
    a = a.T if of_columns else a
    b = b.T if by_rows else b
    out = np.zeros((a.shape[0], b.shape[1]), np.complex128)
    for i in range(a.shape[0]):
        for k in range(a.shape[1]):
            for j in range(b.shape[1]):
                out[i, j] += a[i, k] * b[k, j]
    return out


@numba.njit(cache=True, nogil=True)
def evaluate(point, at, y, out, state, sizes):
    """The half sum at the point that starts at `at`; its slopes are in `out`."""
    for i in range(y.size):
        y[i] = complex(point[at + i], 0.0)
    return directions(y, out, state, sizes).real


@numba.njit(cache=True, nogil=True)
def factorized(matrix):
    """LU factors with partial pivoting, in place, and the row of each pivot."""
    size = len(matrix)
    pivots = np.empty(size, np.int64)
    for k in range(size):
        best = k
        for i in range(k + 1, size):
            if abs(matrix[i, k]) > abs(matrix[best, k]):
                best = i
        pivots[k] = best
        for j in range(size):
            matrix[k, j], matrix[best, j] = matrix[best, j], matrix[k, j]
        for i in range(k + 1, size):
            matrix[i, k] = quotient(matrix[i, k], matrix[k, k])
            share = matrix[i, k]
            if share != 0.0:
                for j in range(k + 1, size):
                    matrix[i, j] -= share * matrix[k, j]
    return pivots


@numba.njit(cache=True, nogil=True)
def solve(matrix, pivots, vector):
    size = len(matrix)
    for k in range(size):
        best = pivots[k]
        vector[k], vector[best] = vector[best], vector[k]
    for k in range(size):
        for i in range(k + 1, size):
            vector[i] -= matrix[i, k] * vector[k]
    for k in range(size - 1, -1, -1):
        for j in range(k + 1, size):
            vector[k] -= matrix[k, j] * vector[j]
        vector[k] = quotient(vector[k], matrix[k, k])


@numba.njit(cache=True, nogil=True)
def orthonormal(vectors):
    """Orthonormal columns near almost orthonormal ones: a Newton-Schulz step, whose error is the square of theirs."""
    size, rank = vectors.shape
    shift = np.zeros((rank, rank))
    for a in range(rank):
        for b in range(rank):
            for i in range(size):
                shift[a, b] += vectors[i, a] * vectors[i, b]
            shift[a, b] = 0.5 * ((1.0 if a == b else 0.0) - shift[a, b])
    row = np.empty(rank)
    for i in range(size):
        for b in range(rank):
            row[b] = vectors[i, b]
            for a in range(rank):
                row[b] += vectors[i, a] * shift[a, b]
        vectors[i] = row


@numba.njit(cache=True, nogil=True)
def unit(state, sizes, i, number):
    """The error of a number that is allowed: of ln sigma relative to 1 if it is smaller."""
    size = abs(number)
    if sizes[0] * sizes[2] <= i < (sizes[0] + 1) * sizes[2]:
        size = max(1.0, size)
    return state[rates_of(sizes) + ATOL] + state[rates_of(sizes) + RTOL] * size


@numba.njit(cache=True, nogil=True)
def arrived(state, scratch, sizes):
    """Slopes and half sum of the run; a new one gets a first step, a hundredth of its time scale."""
    weights, rates = weights_of(sizes), rates_of(sizes)
    y, out = np.empty(weights, np.complex128), np.empty(weights, np.complex128)
    scratch[weights] = evaluate(state, 0, y, out, state, sizes)
    size, speed = 0.0, 0.0
    for i in range(weights):
        scratch[i] = out[i].real
        allowed = unit(state, sizes, i, state[i])
        size += quotient(state[i], allowed) ** 2
        speed += quotient(scratch[i], allowed) ** 2
    if not state[rates + STEP] > 0:
        guess = 0.01 * root(quotient(size, speed))
        state[rates + STEP] = min(guess, 1.0) if guess > 0 else 1e-6
    state[rates + STEP] = min(state[rates + STEP], state[rates + END_TIME] - state[rates + TIME])


@numba.njit(cache=True, nogil=True)
def move(state, scratch, sizes, steps):
    """Try one step; it is accepted if its error is within the tolerance, and it does not jump over the stop.

    One that would is made shorter, as in `_flow_source.py`, until it ends less than 1e-10 (relative) below the stop.
    """
    weights, rates = weights_of(sizes), rates_of(sizes)
    rank, step = sizes[2], state[rates + STEP]
    stage_at, trial_at = weights + 2, weights + 2 + STAGES * weights
    trial = scratch[trial_at : trial_at + weights]
    y, out = np.empty(weights, np.complex128), np.empty(weights, np.complex128)

    matrix = np.empty((weights, weights))
    for i in range(weights):
        y[i] = complex(state[i], 0.0)
    for k in range(weights):
        y[k] = complex(state[k], TINY)
        directions(y, out, state, sizes)
        for i in range(weights):
            matrix[i, k] = -out[i].imag / TINY
        matrix[k, k] += quotient(1.0, GAMMA * step)
        y[k] = complex(state[k], 0.0)
    pivots = factorized(matrix)

    stages = scratch[stage_at:trial_at].reshape(STAGES, weights)
    for s in range(STAGES):
        trial[:] = state[:weights]
        for j in range(s):
            for i in range(weights):
                trial[i] += A[s, j] * stages[j, i]
        if s > 0:
            evaluate(trial, 0, y, out, state, sizes)
        for i in range(weights):
            total = 0.0
            for j in range(s):
                total += C[s, j] * stages[j, i]
            stages[s, i] = (out[i].real if s > 0 else scratch[i]) + quotient(total, step)
        solve(matrix, pivots, stages[s])
    total = 0.0
    for i in range(weights):
        trial[i] += stages[STAGES - 1, i]
        allowed = unit(state, sizes, i, max(abs(state[i]), abs(trial[i])))
        total += quotient(stages[STAGES - 1, i], allowed) ** 2
    error = root(quotient(total, state[rates + COUNT]))
    orthonormal(trial[: sizes[0] * rank].reshape(sizes[0], rank))
    orthonormal(trial[(sizes[0] + 1) * rank :].reshape(sizes[1], rank))
    after = evaluate(trial, 0, y, out, state, sizes)

    scratch[weights + 1] = 0.0
    stop, before = state[rates + STOP], scratch[weights]
    aim = stop * (1 - 5e-11)
    # The exponent 3/16 is near 1/5, and takes square roots alone.
    eighth = root(root(root(max(error, 1e-12))))
    change = quotient(0.9, eighth * root(eighth))
    if not (error < math.inf and after < math.inf):
        step *= 0.2
    elif error > 1:
        step *= max(0.2, change)
    elif after < stop * (1 - 1e-10):
        state[rates + CLOSING] = 1.0
        step *= quotient(before - aim, before - after)
    else:
        scratch[weights + 1] = 1.0
        state[rates + TIME] += step
        state[:weights] = trial
        for i in range(weights):
            scratch[i] = out[i].real
        scratch[weights] = after
        step = min(step * max(0.2, min(change, 5.0)), LARGEST_STEP)
    if state[rates + CLOSING] > 0:
        for i in range(weights):
            y[i] = complex(state[i], TINY * scratch[i])
        speed = -directions(y, out, state, sizes).imag / TINY
        if speed > 0:  # with weight decay the loss may rise
            step = min(step, quotient(scratch[weights] - aim, speed))
    state[rates + STEP] = min(step, state[rates + END_TIME] - state[rates + TIME])
    return 1


@numba.njit(cache=True, nogil=True)
def look(state, scratch, sizes, loss):
    loss[0] = scratch[weights_of(sizes)]


@numba.njit(cache=True, nogil=True)
def moved(scratch, sizes, lane, steps):
    """Whether the step was accepted."""
    return np.int64(scratch[weights_of(sizes) + 1]) if steps > 0 else 0
